/** npm packages with machine code, and assets, in the container where they have to work. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../helpers/root.ts';
import { usePlatform } from '../helpers/suite.ts';

const SOURCE = `
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compareSync, hashSync } from 'bcrypt';
import sharp from 'sharp';
export async function GET() {
  const png = await sharp({ create: { width: 4, height: 3, channels: 3, background: 'red' } }).png().toBuffer();
  const { width, height } = await sharp(png).resize(2).metadata();
  const texts = await Promise.all([readFile('words.txt', 'utf8'), readFile(join(import.meta.dirname, 'words.txt'), 'utf8')]);
  return Response.json({ width, height, same: compareSync('word', hashSync('word', 4)), texts });
}
`;

describe('machine code and assets (docker)', () => {
  const platform = usePlatform({ driver: 'docker' });

  it('sharp, bcrypt and a file, by its place from the working directory and from the module', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-native-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(join(folder, 'index.ts'), SOURCE);
    writeFileSync(join(folder, 'words.txt'), 'words');
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    await platform().fnOk(['deploy', folder, '--name', 'native', '--asset', 'words.txt', '--memory', '256']);
    const answer = await platform().call('/native/');
    expect(answer.json()).toEqual({ width: 4, height: 3, same: true, texts: ['words', 'words'] });
  });
});
