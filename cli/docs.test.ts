import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from './commands/index.ts';
import { EXIT } from './errors.ts';
import { root } from './root.ts';

const read = (path: string): string => readFileSync(join(root, path), 'utf8');

describe('docs/handlers.md', () => {
  const text = read('docs/handlers.md');
  const blocks = [...text.matchAll(/^\[(examples\/[^\]]+)\]\(\.\.\/\1\)\n\n```\w+\n([^]*?)\n```$/gm)].map((match) => ({
    path: match[1]!,
    code: match[2]!,
  }));

  it('shows every example', () => {
    const shown = new Set(blocks.map(({ path }) => path.split('/')[1]));
    expect([...shown].toSorted()).toEqual(readdirSync(join(root, 'examples')).toSorted());
  });

  it.each(blocks)('shows $path as it is', ({ path, code }) => expect(`${code}\n`).toBe(read(path)));

  it('has no other code', () => expect(text.match(/^```\w+$/gm)).toHaveLength(blocks.length));
});

describe('docs/cli.md', () => {
  const text = read('docs/cli.md');

  it.each(COMMANDS.map(({ name, options = [] }) => ({ name, flags: options.flatMap(({ flags }) => flags.match(/--[a-z-]+/g) ?? []) })))(
    'tells of fn $name',
    ({ name, flags }) => {
      expect(text).toContain(`fn ${name}`);
      for (const flag of flags) expect(text).toContain(`\`${flag}`);
    },
  );

  it('lists every exit code', () => {
    for (const code of Object.values(EXIT)) expect(text).toMatch(new RegExp(`^\\| ${code} \\|`, 'm'));
  });
});

it('every example has a README that says how to deploy it', () => {
  for (const name of readdirSync(join(root, 'examples'))) expect(read(`examples/${name}/README.md`)).toContain('fn deploy');
});
