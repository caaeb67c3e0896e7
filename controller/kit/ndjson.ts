/** Newline-delimited JSON over a stream: one value a line, with a limit on the line. */
import { StringDecoder } from 'node:string_decoder';

export class LineTooLong extends Error {
  constructor(limit: number) {
    super(`a line is longer than ${limit} bytes`);
    this.name = 'LineTooLong';
  }
}

/** Splits chunks into lines. Throws LineTooLong; what follows is not usable then. */
export class LineSplitter {
  #decoder = new StringDecoder('utf8');
  #pending: string[] = [];
  #pendingLength = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The lines that this chunk completes, without their newline; empty lines are left out. */
  push(chunk: Buffer): string[] {
    const text = this.#decoder.write(chunk);
    const lines: string[] = [];
    let from = 0;
    for (;;) {
      const newline = text.indexOf('\n', from);
      if (newline < 0) break;
      const line = this.#pending.length === 0 ? text.slice(from, newline) : this.#pending.join('') + text.slice(from, newline);
      this.#pending = [];
      this.#pendingLength = 0;
      from = newline + 1;
      if (line.length > this.#limit) throw new LineTooLong(this.#limit);
      if (line.length > 0) lines.push(line);
    }
    if (from < text.length) {
      this.#pending.push(text.slice(from));
      this.#pendingLength += text.length - from;
      if (this.#pendingLength > this.#limit) throw new LineTooLong(this.#limit);
    }
    return lines;
  }
}

/** A value whose JSON is made already: what is long and goes to many is encoded once. */
export class EncodedJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export const encodeLine = (value: unknown): string => `${value instanceof EncodedJson ? value.text : JSON.stringify(value)}\n`;
