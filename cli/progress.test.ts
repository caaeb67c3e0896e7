import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Progress } from './progress.ts';

class Screen {
  text = '';
  readonly isTTY: boolean;

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string | Uint8Array): void {
    this.text += String(text);
  }

  /** What a person sees: a line that was cleared is gone. */
  get seen(): string[] {
    return this.text.split('\n').map((line) => line.split('\r\u001b[K').at(-1)!);
  }
}

describe('progress', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  it('is shown after a second, makes room for lines, and is gone at the end', () => {
    const screen = new Screen(true);
    const progress = new Progress(screen, {});
    progress.doing('uploading');
    vi.advanceTimersByTime(900);
    expect(screen.text).toBe('');
    vi.advanceTimersByTime(300);
    expect(screen.seen.at(-1)).toMatch(/^. uploading 1\.\d s$/);
    progress.line('half of it');
    expect(screen.seen).toEqual(['half of it', '']);
    // Something else goes on now: its own second counts.
    progress.doing('starting');
    vi.advanceTimersByTime(500);
    expect(screen.seen).toEqual(['half of it', '']);
    vi.advanceTimersByTime(700);
    expect(screen.seen.at(-1)).toMatch(/^. starting 1\.\d s$/);
    progress.stop();
    expect(screen.seen).toEqual(['half of it', '']);
    const { text } = screen;
    vi.advanceTimersByTime(5_000);
    expect(screen.text).toBe(text);
  });

  it.each([
    [false, {}],
    [true, { TERM: 'dumb' }],
  ])('where nobody could see it move (terminal %s, %j) there are only lines', (isTTY, env) => {
    const screen = new Screen(isTTY);
    const progress = new Progress(screen, env);
    progress.doing('uploading');
    vi.advanceTimersByTime(5_000);
    progress.line('done');
    progress.stop();
    expect(screen.text).toBe('done\n');
  });
});
