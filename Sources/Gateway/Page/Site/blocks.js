// Where prose ends and code begins: lines that start with three backquotes fence code. That is all the markup there is.

/**
 * Cuts a growing text into pieces of one line and says in which block each belongs.
 *
 * `push` returns steps in order: `{kind: "piece", text, fence}` adds text to the current block, and
 * `{kind: "code", move}` and `{kind: "prose"}` begin a new one. A fence is recognised only with its third backquote:
 * its beginning, the last `move` pieces, goes along into the block.
 */
export class BlockCutter {
  #line = "";
  #pieces = 0;
  #code = false;
  #fence = false;

  push(text) {
    const steps = [];
    for (const piece of text.match(/[^\n]*\n|[^\n]+/g) ?? []) {
      this.#line += piece;
      if (!this.#fence && /^ {0,3}```/.test(this.#line)) {
        this.#fence = true;
        if (!this.#code) {
          steps.push({ kind: "code", move: this.#pieces });
          this.#code = true;
        } else {
          this.#code = false;
        }
      }
      steps.push({ kind: "piece", text: piece, fence: this.#fence });
      this.#pieces += 1;
      if (!piece.endsWith("\n")) continue;
      if (this.#fence && !this.#code) steps.push({ kind: "prose" });
      this.#line = "";
      this.#pieces = 0;
      this.#fence = false;
    }
    return steps;
  }
}
