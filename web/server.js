// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Talks to the server: the key, errors, streams of events. Nothing leaves this origin. */

const KEY = "kvrm-key";

/** Whether the reader has given a key: what the browser asks for by itself comes without it. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** An answer that is an error, in the server's own words. */
export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @type {Promise<void> | null} */
let asking = null;

/**
 * Asks the reader for a key; once, however many requests want one.
 *
 * @param {boolean} wrong whether the key that was sent is not one of the server's
 */
function askForKey(wrong) {
  return asking ??= new Promise((resolve) => {
    const dialog = /** @type {HTMLDialogElement} */ (document.querySelector("#key"));
    const input = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
    const note = /** @type {HTMLElement} */ (dialog.querySelector("#key-note"));
    if (wrong) note.textContent = "That key is not one of this server’s.";
    input.value = "";
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
}

/**
 * `fetch`, with the key where there is one; asks for one where it is wanted.
 *
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function ask(path, init = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    /** @type {Record<string, string>} */
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    if (init.body) headers["content-type"] = "application/json";
    const response = await fetch(path, { ...init, headers });
    if (response.ok) return response;
    if (response.status === 401) {
      await response.body?.cancel();
      if (key !== sessionStorage.getItem(KEY)) continue; // it was given meanwhile
      await askForKey(key !== null);
      continue;
    }
    const text = await response.text();
    let message = `${response.status} ${response.statusText}`;
    try {
      message = JSON.parse(text).error.message;
    } catch {
      // Not one of the server's own errors: a proxy's, maybe.
    }
    throw new ServerError(response.status, message);
  }
}

/**
 * The values of a stream's events.
 *
 * @param {Response} response
 * @returns {AsyncGenerator<any>}
 */
export async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).pipeThrough(
    new TextDecoderStream(),
  )
    .getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const data = part.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
        if (data === "[DONE]") return;
        if (data !== undefined) yield JSON.parse(data);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
