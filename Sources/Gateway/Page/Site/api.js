// The server's HTTP interface.
import { EventParser } from "./sse.js";
import { tabOnly } from "./storage.js";

const keyName = "fusionroute.key";

/** The API key lives as long as the tab. */
export const apiKey = {
  get: () => tabOnly.get(keyName),
  set: (key) => tabOnly.set(keyName, key),
  forget: () => tabOnly.remove(keyName),
};

/** What the server, or the way to it, said instead of an answer. `status` is 0 where no response came. */
export class APIError extends Error {
  constructor(message, { status = 0, code = null, type = null, retryAfter = null, requestID = null } = {}) {
    super(message);
    Object.assign(this, { name: "APIError", status, code, type, retryAfter, requestID });
  }

  get isConnection() {
    return this.status === 0;
  }
}

const listeners = new Set();

/** Calls `listener(isUp)` after every attempt to reach the server. */
export const onReach = (listener) => listeners.add(listener);
const reached = (isUp) => {
  for (const listener of listeners) listener(isUp);
};

let askForKey = async () => null;

/** `ask(reason)` resolves to a key, or to null where the person has none. */
export const setKeyPrompt = (ask) => (askForKey = ask);
let asking = null;

function headers(body) {
  const result = {};
  if (body !== undefined) result["content-type"] = "application/json";
  const key = apiKey.get();
  if (key) result.authorization = `Bearer ${key}`;
  return result;
}

async function send(path, { body, signal, quiet }) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: headers(body),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reached(false);
    throw new APIError("The server cannot be reached. It may be starting, or the network is down.");
  }
  reached(true);
  if (response.ok) return response;
  const error = await problem(response);
  if (response.status !== 401 || quiet) throw error;
  // All requests that need a key wait for one question.
  const tried = apiKey.get();
  asking ??= askForKey(error.message, tried !== null).finally(() => (asking = null));
  const key = await asking;
  signal?.throwIfAborted();
  if (!key) throw error;
  apiKey.set(key);
  return send(path, { body, signal, quiet: key === tried });
}

/** OpenAI's error object, or what can be said without one. */
async function problem(response) {
  const text = await response.text().catch(() => "");
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    error = { message: text.trim().slice(0, 500) };
  }
  const retryAfter = Number.parseFloat(response.headers.get("retry-after"));
  return new APIError(error.message || `The server answered ${response.status} ${response.statusText}`.trim() + ".", {
    status: response.status,
    code: error.code,
    type: error.type,
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : null,
    requestID: response.headers.get("x-request-id"),
  });
}

/** The body of `GET path`. `quiet`: throws at 401 instead of asking for a key. */
export async function get(path, { signal, quiet = false } = {}) {
  const response = await send(path, { signal, quiet });
  return response.json();
}

/**
 * Posts a streamed chat completion and calls `take(chunk)` for every chunk. Resolves when the server has said that the
 * stream is complete; a stream that ends otherwise is an error.
 */
export async function stream(body, { signal, take }) {
  const response = await send("/v1/chat/completions", { body: { ...body, stream: true }, signal });
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const broken = () => new APIError("The connection ended before the answer did.");
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      reached(false);
      throw broken();
    }
    if (part.done) throw broken();
    for (const event of parser.push(part.value)) {
      if (event.data === "[DONE]") {
        reader.cancel().catch(() => {});
        return;
      }
      const chunk = JSON.parse(event.data);
      if (chunk.error) {
        const { message, code, type } = chunk.error;
        const told = { status: response.status, code, type, requestID: response.headers.get("x-request-id") };
        throw new APIError(message ?? "The server ended the answer.", told);
      }
      take(chunk);
    }
  }
}
