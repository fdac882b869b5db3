// Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

/** Cuts the text of an event stream, which arrives in pieces of any size, into events. */
export class EventParser {
  #line = "";
  #afterReturn = false;
  #data = [];
  #type = "";

  /** The events that `text` completes, as `{type, data}`. */
  push(text) {
    const events = [];
    let start = 0;
    for (let i = 0; i < text.length; i += 1) {
      const c = text[i];
      if (c !== "\n" && c !== "\r") {
        this.#afterReturn = false;
        continue;
      }
      if (c === "\n" && this.#afterReturn) {
        // The second half of a line end.
        this.#afterReturn = false;
        start = i + 1;
        continue;
      }
      this.#afterReturn = c === "\r";
      const line = this.#line + text.slice(start, i);
      this.#line = "";
      start = i + 1;
      const event = this.#take(line);
      if (event) events.push(event);
    }
    this.#line += text.slice(start);
    return events;
  }

  #take(line) {
    if (line === "") {
      const event = this.#data.length > 0 ? { type: this.#type || "message", data: this.#data.join("\n") } : null;
      this.#data = [];
      this.#type = "";
      return event;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    return null;
  }
}
