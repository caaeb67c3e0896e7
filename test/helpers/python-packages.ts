/**
 * Flask and FastAPI as Debian has them, put into a folder beside a test's function: there is no package
 * index where these tests run.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { debianPackage } from './debian-package.ts';

const PACKAGES = {
  flask: ['flask', 'werkzeug', 'jinja2', 'itsdangerous', 'click', 'markupsafe', 'blinker', 'colorama'],
  fastapi: ['fastapi', 'starlette', 'pydantic', 'anyio', 'sniffio', 'idna', 'typing-extensions'],
} as const;

/** Copies a framework and all that it needs into `folder`/vendor. */
export async function vendor(framework: keyof typeof PACKAGES, folder: string): Promise<void> {
  const root = await debianPackage(...PACKAGES[framework].map((name) => `python3-${name}`));
  cpSync(join(root, 'usr', 'lib', 'python3', 'dist-packages'), join(folder, 'vendor'), { recursive: true });
}
