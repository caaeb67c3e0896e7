/** An image built by this machine's engine: the folder as its context, without what .dockerignore leaves out. */
import { basename, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type Dockerode from 'dockerode';
import { z } from 'zod';
import { CliError } from '../errors.ts';

/** Lines of a failed build that are shown. */
const SHOWN_LINES = 20;

const BuildLine = z.object({
  stream: z.string().optional(),
  error: z.string().optional(),
  status: z.string().optional(),
  aux: z.object({ ID: z.string() }).optional(),
});

/** Id of the image. Throws CliError with the last lines of the build. */
export async function buildImage(docker: Dockerode, dockerfile: string, say: (line: string) => void, signal: AbortSignal): Promise<string> {
  const context = dirname(dockerfile);
  // dockerode itself applies .dockerignore.
  const output = await docker.buildImage(
    { context, src: ['.'] },
    {
      dockerfile: basename(dockerfile),
      rm: true,
      forcerm: true,
      abortSignal: signal,
    },
  );
  const lines: string[] = [];
  let id: string | null = null;
  for await (const line of createInterface({ input: output })) {
    const said = BuildLine.safeParse(parseLine(line));
    if (!said.success) continue;
    const { stream, error, aux } = said.data;
    if (stream?.trim()) lines.push(stream.trimEnd());
    if (stream?.startsWith('Step ')) say(stream.trim());
    if (aux) id = aux.ID;
    if (error !== undefined)
      throw new CliError(`${dockerfile} does not build`, { details: [...lines.slice(-SHOWN_LINES), error], hint: 'Nothing was deployed.' });
  }
  if (id === null) throw new CliError(`the engine built ${dockerfile} but named no image`, { details: lines.slice(-SHOWN_LINES) });
  return id;
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null; // the engine's answers are JSON, a line each; an empty line is not
  }
}
