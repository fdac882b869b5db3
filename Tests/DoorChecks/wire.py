"""Messages of the wire protocol by hand (Protos/fusionroute/v1/fusionroute.proto), and CURVE peers that send them."""

import struct

import zmq

# Field numbers of Envelope.body.
REGISTER, REGISTERED, REGISTER_AGAIN, REFUSED, VOCABULARY_QUERY = 2, 3, 4, 5, 6
HEARTBEAT, STEP, FAILURE, CREDIT, CANCEL, RELEASE, DRAIN, GOODBYE = 8, 9, 15, 16, 17, 18, 19, 20


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed(field, value):
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def envelope(kind, body=b""):
    return number(1, 1) + data(kind, body)


def registration(expert, incarnation, fingerprint=b"\1" * 32, slots=4):
    numerics = data(1, b"made up") + data(2, b"\2" * 32) + number(3, 1)
    return envelope(
        REGISTER,
        number(1, 1) + number(2, 1) + data(3, expert.encode()) + fixed(4, incarnation) + data(5, fingerprint)
        + data(6, b"\3" * 32) + number(7, 2048) + data(8, numerics) + number(9, slots) + number(10, 1024)
        + number(11, 16) + data(12, b"nowhere") + number(13, 4242) + data(14, b"test"),
    )


def heartbeat():
    return envelope(HEARTBEAT, fixed(1, 7) + number(2, 1) + number(3, 1))


def kind(frame):
    """The message in an envelope that a coordinator sent."""
    at, found = 0, None
    while at < len(frame):
        tag, at = read_varint(frame, at)
        if tag & 7 == 2:
            size, at = read_varint(frame, at)
            found, at = tag >> 3, at + size
        elif tag & 7 == 0:
            _, at = read_varint(frame, at)
        else:
            at += 8 if tag & 7 == 1 else 4
    return found


def read_varint(frame, at):
    value, shift = 0, 0
    while True:
        byte = frame[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


class Peer:
    """A DEALER that dials a coordinator; with keys, over CURVE."""

    def __init__(self, context, endpoint, server=None, pair=None):
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 100_000
        if pair:
            self.socket.curve_serverkey, (self.socket.curve_publickey, self.socket.curve_secretkey) = server, pair
        self.events = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.socket.connect(endpoint)

    def is_connected(self, seconds):
        return bool(self.events.poll(int(seconds * 1000)))

    def send(self, *frames):
        self.socket.send_multipart(frames, flags=zmq.NOBLOCK)

    def heard(self, seconds):
        """Kinds of all messages that come until nothing has come for so long."""
        kinds = []
        while self.socket.poll(int(seconds * 1000)):
            kinds.append(kind(self.socket.recv_multipart()[0]))
        return kinds

    def close(self):
        self.socket.disable_monitor()
        self.events.close(0)
        self.socket.close(0)
