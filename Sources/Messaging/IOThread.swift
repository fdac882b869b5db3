internal import CZeroMQ
internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A thread of our own: blocking calls do not belong on the pool that runs Swift's tasks.
struct IOThread: @unchecked Sendable {
  // Unchecked: pthread_t is a plain handle; it is joined once, by the owner's `shutdown`.
  private let thread: pthread_t

  private final class Body {
    let name: String
    let run: () -> Void
    init(name: String, run: @escaping () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Starts `body`. What it captures must not be used by the caller any more.
  init(name: String, body: @escaping () -> Void) throws {
    let box = Unmanaged.passRetained(Body(name: String(name.prefix(15)), run: body))
    #if canImport(Darwin)
      var handle: pthread_t?
    #else
      var handle = pthread_t()
    #endif
    let status = pthread_create(&handle, nil, Self.start, box.toOpaque())
    guard status == 0 else {
      box.release()
      throw FusionRouteError.unavailable("cannot start a thread: \(String(cString: strerror(status)))")
    }
    #if canImport(Darwin)
      guard let handle else { throw FusionRouteError.internal("pthread_create gave no thread") }
    #endif
    thread = handle
  }

  func join() { pthread_join(thread, nil) }

  /// For an owner that ends on the thread itself.
  func detach() { pthread_detach(thread) }

  #if canImport(Darwin)
    private static let start: @convention(c) (UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? = { pointer in
      let body = Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue()
      pthread_setname_np(body.name)
      body.run()
      return nil
    }
  #else
    private static let start: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { pointer in
      guard let pointer else { return nil }
      let body = Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue()
      fr_name_thread(body.name)
      body.run()
      return nil
    }
  #endif
}
