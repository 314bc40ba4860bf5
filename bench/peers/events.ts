/**
 * Server-sent events of completions, counted with as little work as can be: an event is not parsed, only searched.
 *
 * @module
 */

const LF = 10, CR = 13;

/** Counts the events with text of one stream. */
export class EventReader {
  /** From the usage, which the last event but `[DONE]` carries where it was asked for. */
  completionTokens: number | undefined;
  #rest = "";
  readonly #decoder = new TextDecoder();

  /** Takes what came; returns how many events that end in it carry text. */
  push(bytes: Uint8Array): number {
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    let count = 0, from = 0;
    for (;;) {
      const end = eventEnd(text, from);
      if (end < 0) break;
      if (this.#event(text.slice(from, end))) count++;
      from = end;
    }
    this.#rest = text.slice(from);
    return count;
  }

  #event(event: string): boolean {
    const usage = /"completion_tokens": ?(\d+)/.exec(event);
    if (usage) this.completionTokens = Number(usage[1]);
    // Of completions, of chat completions; an empty text is a beginning, an end or a usage.
    return /"(?:text|content)": ?"(?!")/.test(event);
  }
}

/** Past the empty line that ends the event which begins at `from`, or -1. */
function eventEnd(text: string, from: number): number {
  for (let at = text.indexOf("\n", from); at >= 0; at = text.indexOf("\n", at + 1)) {
    const next = text.charCodeAt(at + 1);
    if (next === LF) return at + 2;
    if (next === CR && text.charCodeAt(at + 2) === LF) return at + 3;
  }
  return -1;
}
