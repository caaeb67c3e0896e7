import { expect, it } from 'vitest';
import { CliError, renderError } from './errors.ts';

it('an error with words of a function cannot repaint the screen of who reads it', () => {
  const evil = 'load \u001b]0;title\u0007\u001b[2J\u009b31m\rover';
  const error = new CliError(evil, { details: [`a.mjs:1: ${evil}\nat b`], hint: evil });
  const shown = 'load \\x1b]0;title\\x07\\x1b[2J\\x9b31m\\x0dover';
  expect(renderError(error, (_style, text) => text)).toBe(`error: ${shown}\n  a.mjs:1: ${shown}\n  at b\n  → ${shown}\n`);
});
