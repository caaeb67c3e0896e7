/**
 * So many bytes of memory for what would else have no common limit. Each namespace may have as much of it as it leaves free: who sends
 * slowly to one of them keeps nobody from the others.
 */
export class ByteBudget {
  readonly #max: number;
  readonly #of = new Map<string, number>();
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get taken(): number {
    return this.#taken;
  }

  /** False where it is used up. */
  take(namespace: string, bytes: number): boolean {
    const own = this.#of.get(namespace) ?? 0;
    if (own + bytes > this.#max - this.#taken) return false;
    this.#set(namespace, own + bytes);
    this.#taken += bytes;
    return true;
  }

  give(namespace: string, bytes: number): void {
    this.#set(namespace, (this.#of.get(namespace) ?? 0) - bytes);
    this.#taken -= bytes;
  }

  #set(namespace: string, bytes: number): void {
    if (bytes === 0) this.#of.delete(namespace);
    else this.#of.set(namespace, bytes);
  }
}
