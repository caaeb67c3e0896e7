import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS, COMMAND_GROUPS } from './commands/index.ts';
import { EXIT } from './errors.ts';
import { root } from './root.ts';

const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Blocks that show a file of an example: a link to it, and the whole of it. */
const shownIn = (page: string): { page: string; path: string; code: string }[] =>
  [...read(page).matchAll(/^\[(examples\/[^\]]+)\]\(\.\.\/\1\)\n\n```\w+\n([^]*?)\n```$/gm)].map((match) => ({
    page,
    path: match[1]!,
    code: match[2]!,
  }));

describe('the examples in the documentation', () => {
  const blocks = ['docs/handlers.md', 'docs/languages.md'].flatMap(shownIn);

  it('are all of them', () => {
    const shown = new Set(blocks.map(({ path }) => path.split('/')[1]));
    expect([...shown].toSorted()).toEqual(readdirSync(join(root, 'examples')).toSorted());
  });

  it.each(blocks)('$page shows $path as it is', ({ path, code }) => expect(`${code}\n`).toBe(read(path)));

  it('are all the code of docs/handlers.md: what is not run there would rot', () =>
    expect(read('docs/handlers.md').match(/^```\w+$/gm)).toHaveLength(shownIn('docs/handlers.md').length));
});

describe('docs/cli.md', () => {
  const text = read('docs/cli.md');

  it('has the topics of the help, in its order', () => {
    const topics = [...text.matchAll(/^## (.+)$/gm)].map((match) => match[1]!);
    const headings = Object.keys(COMMAND_GROUPS);
    expect(topics.filter((topic) => headings.includes(topic))).toEqual(headings);
  });

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
