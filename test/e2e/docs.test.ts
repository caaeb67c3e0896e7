/**
 * The commands in the documentation are run as they stand there. Every `sh` block of a page is part
 * of one script, in order, in a folder that looks like a clone; ports and the home are those of the
 * test. A block that cannot be run here says so in a comment before it, with the reason:
 * `<!-- not run: it needs root on another machine -->`.
 */
import { globSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { execa } from 'execa';
import { afterAll, describe, expect, it } from 'vitest';
import { ROOT } from '../helpers/root.ts';
import { freePort, RUN_FOLDER, TestPlatform } from '../helpers/platform.ts';

interface Block {
  line: number;
  code: string;
  notRun: string | null;
}

/** The `sh` blocks of a page. */
function blocks(markdown: string): Block[] {
  const found: Block[] = [];
  const lines = markdown.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    if (!/^```sh\s*$/.test(lines[at]!)) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`the block in line ${at + 1} does not end`);
    const before = lines.slice(0, at).findLast((line) => line.trim() !== '') ?? '';
    found.push({ line: at + 1, code: lines.slice(at + 1, end).join('\n'), notRun: /^<!-- not run: (.+) -->$/.exec(before)?.[1] ?? null });
    at = end;
  }
  return found;
}

const pages = globSync(['README.md', 'docs/*.md', 'runtime-images/*.md', 'examples/*/README.md'], { cwd: ROOT })
  .sort()
  .map((page) => ({ page, found: blocks(readFileSync(join(ROOT, page), 'utf8')) }))
  .filter(({ found }) => found.some((block) => block.notRun === null));

describe('the commands in the documentation', () => {
  it('are found', () => {
    expect(pages.map(({ page }) => page)).toEqual(
      expect.arrayContaining(['README.md', 'docs/api.md', 'docs/cli.md', 'docs/operations.md']),
    );
  });

  describe.each(pages)('of $page', ({ page, found }) => {
    const disposals: (() => Promise<string[]>)[] = [];
    afterAll(async () => {
      for (const dispose of disposals) expect(await dispose()).toEqual([]);
    });

    it('work', async () => {
      const platform = new TestPlatform({ driver: 'docker' }, await freePort());
      disposals.push(() => platform.dispose());
      await platform.up();
      const folder = mkdtempSync(join(RUN_FOLDER, 'docs-'));
      for (const name of ['fn', 'examples', 'package.json', 'node_modules']) symlinkSync(join(ROOT, name), join(folder, name));
      const script = found
        .filter((block) => block.notRun === null)
        .map((block) => `echo '--- ${page}:${block.line}'\n${block.code}`)
        .join('\n')
        .replaceAll('8080', String(platform.port))
        .replaceAll('9000', String(await freePort()))
        .replaceAll('up --detach', `up --detach --port ${platform.port}`);
      const run = await execa('bash', ['-euo', 'pipefail', '-c', script], {
        // A page of an example speaks of the folder that it is in.
        cwd: page.startsWith('examples/') ? join(ROOT, relative(ROOT, join(ROOT, page, '..'))) : folder,
        env: { FN_HOME: platform.home, PATH: `${ROOT}:${process.env.PATH}` },
        stdin: 'ignore',
        reject: false,
        all: true,
        timeout: 280_000,
      });
      expect(run.exitCode, `${page}:\n${run.all}`).toBe(0);
    }, 300_000);
  });
});
