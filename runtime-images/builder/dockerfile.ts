/** A Dockerfile for an image of fn itself upon an image of a registry; the builder hands over files and links below `root/`. */
import type { RuntimeDefinition } from './runtime.ts';

/** An empty folder of the build's context: copied, it is a folder with an owner. */
export const EMPTY_FOLDER = 'empty';

/** The same image as the builder's own, but for the base. */
export function dockerfileOf({ config, entries }: RuntimeDefinition): string {
  const lines = ['ARG BASE', 'FROM ${BASE}', 'COPY root /'];
  for (const [path, entry] of Object.entries(entries))
    if (entry.type === 'directory') lines.push(`COPY --chown=${entry.owner ?? 0}:${entry.owner ?? 0} ${EMPTY_FOLDER} /${path}`);
  for (const setting of config.Env) lines.push(`ENV ${setting}`);
  for (const path of Object.keys(config.Volumes ?? {})) lines.push(`VOLUME ${JSON.stringify([path])}`);
  for (const port of Object.keys(config.ExposedPorts ?? {})) lines.push(`EXPOSE ${port}`);
  lines.push(`WORKDIR ${config.WorkingDir}`, `USER ${config.User}`, `STOPSIGNAL ${config.StopSignal}`);
  lines.push(`ENTRYPOINT ${JSON.stringify(config.Entrypoint)}`, `CMD ${JSON.stringify(config.Cmd)}`);
  return `${lines.join('\n')}\n`;
}
