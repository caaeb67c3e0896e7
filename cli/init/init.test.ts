import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createProject } from './create.ts';
import { findTemplate, templates } from './templates.ts';

const work = mkdtempSync(join(tmpdir(), 'fn-init-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

const all = templates();

describe('templates', () => {
  it('are there for each language and handler form', () => {
    expect(new Set(all.map(({ language }) => language))).toEqual(
      new Set(['TypeScript', 'JavaScript', 'Python', 'Bun', 'Deno', 'Go', 'image']),
    );
    for (const name of [
      'hello',
      'methods',
      'lambda',
      'node-http',
      'express-app',
      'flask',
      'fastapi',
      'python-lambda',
      'chat',
      'words',
      'webhook',
    ]) {
      expect(findTemplate(name, all)?.name).toBe(name);
    }
  });

  it('say in a sentence what they are', () => {
    for (const { summary } of all) expect(summary.length).toBeGreaterThan(10);
  });

  it('are found by the names that people guess, and by no property of objects', () => {
    expect(findTemplate('python', all)?.name).toBe('python-function');
    expect(findTemplate('go', all)?.name).toBe('go-server');
    expect(findTemplate('constructor', all)).toBeNull();
    expect(findTemplate('cobol', all)).toBeNull();
  });
});

describe('fn init', () => {
  it.each(all.map((template) => [template.name, template] as const))(
    '%s: named after the folder, without what is the tests’ own',
    (name, template) => {
      const folder = join(work, `my-${name}`);
      const created = createProject(template, folder, work);
      expect(created.name).toBe(`my-${name}`);
      const manifest = readFileSync(join(folder, 'fn.yaml'), 'utf8');
      expect(manifest).toContain(`\n  my-${name}:\n`);
      expect(manifest).toContain('$schema=.fn/fn.schema.json');
      expect(created.files).not.toContain('requests.yaml');
      expect(created.files).toContain('.fn/fn.schema.json');
      expect(created.next[0]).toBe(`cd my-${name}`);
      if (template.language !== 'TypeScript') return;
      expect(created.files).toContain('tsconfig.json');
      // Named in tsconfig.json: types that nothing installs fail every check.
      const { devDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      expect(devDependencies).toHaveProperty('@types/node');
    },
  );

  it('refuses a folder that has files, and leaves them', () => {
    const folder = join(work, 'taken');
    createProject(findTemplate('hello', all)!, folder, work);
    writeFileSync(join(folder, 'index.ts'), 'mine');
    expect(() => createProject(findTemplate('python', all)!, folder, work)).toThrow(/is not empty/);
    expect(readFileSync(join(folder, 'index.ts'), 'utf8')).toBe('mine');
    expect(existsSync(join(folder, 'main.py'))).toBe(false);
  });

  it('tells secrets and packages among the next steps', () => {
    expect(createProject(findTemplate('webhook', all)!, join(work, 'hook'), work).next).toContain('fn secret set WEBHOOK_SECRET');
    expect(createProject(findTemplate('hono', all)!, join(work, 'api'), work).next).toContain('npm install');
  });
});
