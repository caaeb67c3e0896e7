/**
 * The little of the Docker Engine API that a build needs, over the engine's socket, so that no
 * docker command is needed and a check costs milliseconds. DOCKER_HOST is respected.
 */
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** An image is loaded in seconds; a build may have to pull its base. */
const ENGINE_TIMEOUT_MS = 900_000;
/** Answers are read whole; a build's log is the longest. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** The engine cannot be reached; the message says what to do. */
export class NoEngine extends Error {}

/** Bytes of a tar file, from whatever kind of stream. */
export type TarStream = AsyncIterable<unknown>;

interface Target {
  secure: boolean;
  options: RequestOptions;
  name: string;
}

function target(env: NodeJS.ProcessEnv): Target {
  const host = env.DOCKER_HOST ?? 'unix:///var/run/docker.sock';
  if (host.startsWith('unix://')) return { secure: false, options: { socketPath: host.slice('unix://'.length) }, name: host };
  const match = /^(tcp|https?):\/\/(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(host);
  if (!match) throw new NoEngine(`DOCKER_HOST=${host} is not supported: use unix:///path or tcp://host:port`);
  const secure = match[1] === 'https' || (env.DOCKER_TLS_VERIFY ?? '') !== '';
  const options: RequestOptions & { ca?: Buffer; cert?: Buffer; key?: Buffer } = {
    host: match[2]!.replace(/^\[|\]$/g, ''),
    port: Number(match[3] ?? (secure ? 2376 : 2375)),
  };
  if (secure && env.DOCKER_CERT_PATH) {
    const read = (name: string) => readFileSync(join(env.DOCKER_CERT_PATH!, name));
    Object.assign(options, { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') });
  }
  return { secure, options, name: host };
}

interface Answer {
  status: number;
  body: string;
}

interface Message {
  body?: TarStream;
  headers?: Record<string, string>;
}

/** Sends a request; the answer's body is still to be read. Throws NoEngine. */
async function send(method: string, path: string, { body, headers = {} }: Message = {}): Promise<IncomingMessage> {
  const { secure, options, name } = target(process.env);
  const outgoing = (secure ? httpsRequest : httpRequest)({
    ...options,
    method,
    path,
    timeout: ENGINE_TIMEOUT_MS,
    headers: body ? { 'content-type': 'application/x-tar', ...headers } : headers,
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.on('response', resolve);
    outgoing.on('error', (error) =>
      reject(
        new NoEngine(
          `no Docker engine answers at ${name} (${error.message}): ${process.env.DOCKER_HOST ? 'start it, or correct DOCKER_HOST, which names it' : 'start it, or install one (Debian: apt-get install docker.io)'}`,
        ),
      ),
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${ENGINE_TIMEOUT_MS} ms`)));
  });
  // The engine may answer, with an error, before it has read all of the body.
  const sent = body ? pipeline(body, outgoing) : Promise.resolve(void outgoing.end());
  sent.catch(() => {});
  return answered;
}

async function call(method: string, path: string, sent?: Message): Promise<Answer> {
  const incoming = await send(method, path, sent);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`the engine's answer to ${method} ${path} is over ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return { status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() };
}

export interface ImageInfo {
  id: string;
  labels: Record<string, string>;
  /** Of all layers, unpacked. */
  bytes: number;
  /** When this engine last gave it a tag, milliseconds since 1970; null where it does not say. Its own date is fixed. */
  taggedAt: number | null;
}

/** null where the engine has no such image. */
export async function inspectImage(reference: string): Promise<ImageInfo | null> {
  const answer = await call('GET', `/images/${encodeURIComponent(reference)}/json`);
  if (answer.status === 404) return null;
  if (answer.status !== 200) throw new Error(`the engine cannot tell about ${reference}: ${message(answer)}`);
  const info: Inspected = JSON.parse(answer.body);
  const taggedAt = Date.parse(info.Metadata?.LastTagTime ?? '');
  return { id: info.Id, labels: info.Config?.Labels ?? {}, bytes: info.Size, taggedAt: taggedAt > 0 ? taggedAt : null };
}

interface Inspected {
  Id: string;
  Size: number;
  Config?: { Labels?: Record<string, string> | null };
  Metadata?: { LastTagTime?: string };
}

/** All images that carry a label with this value. */
export async function imageTags(label: string, value: string): Promise<{ id: string; tags: string[] }[]> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`${label}=${value}`] }));
  const answer = await call('GET', `/images/json?filters=${filters}`);
  if (answer.status !== 200) throw new Error(`the engine does not list its images: ${message(answer)}`);
  const images: { Id: string; RepoTags: string[] | null }[] = JSON.parse(answer.body);
  return images.map(({ Id, RepoTags }) => ({ id: Id, tags: RepoTags ?? [] }));
}

/** Gives an image a tag, also one that it has: the engine then writes down when, which it does not for what is loaded. */
export async function tagImage(id: string, tag: string): Promise<void> {
  // A registry's name may hold a colon, too: REGISTRY:PORT/NAME:TAG.
  const colon = tag.lastIndexOf(':');
  const [repo, name] = [tag.slice(0, colon), tag.slice(colon + 1)];
  const answer = await call('POST', `/images/${encodeURIComponent(id)}/tag?${new URLSearchParams({ repo, tag: name })}`);
  if (answer.status !== 201) throw new Error(`the engine does not tag ${tag}: ${message(answer)}`);
}

/** Removes a tag, and the image with its last one; false where something uses it. */
export async function removeImageTag(tag: string): Promise<boolean> {
  // Without `force`: the engine itself refuses while a container, even a stopped one, is made of it.
  const answer = await call('DELETE', `/images/${encodeURIComponent(tag)}`);
  if (answer.status === 200 || answer.status === 404) return true;
  if (answer.status === 409) return false;
  throw new Error(`the engine does not remove ${tag}: ${message(answer)}`);
}

/** `docker load`. */
export async function loadImage(archive: TarStream): Promise<void> {
  const answer = await call('POST', '/images/load?quiet=1', { body: archive });
  const failure = streamedError(answer.body);
  if (answer.status !== 200 || failure) throw new Error(`the engine did not load the image: ${failure ?? message(answer)}`);
}

/** `docker build` of a context with a Dockerfile at its top. */
export async function buildImage(
  context: TarStream,
  options: { tag: string; args: Record<string, string>; labels: Record<string, string> },
): Promise<void> {
  const query = new URLSearchParams({
    t: options.tag,
    buildargs: JSON.stringify(options.args),
    labels: JSON.stringify(options.labels),
    rm: '1',
    forcerm: '1',
  });
  const answer = await call('POST', `/build?${query}`, { body: context });
  const failure = streamedError(answer.body);
  if (answer.status !== 200 || failure) throw new Error(`docker build failed: ${failure ?? message(answer)}`);
}

/** `docker save` of images by their tags, as one archive. Throws where the engine lacks one. */
export async function saveImages(tags: readonly string[]): Promise<IncomingMessage> {
  const path = `/images/get?${new URLSearchParams(tags.map((tag): [string, string] => ['names', tag]))}`;
  const incoming = await send('GET', path);
  if (incoming.statusCode === 200) return incoming;
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  const answer = { status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() };
  throw new Error(`the engine does not save ${tags.join(', ')}: ${message(answer)}`);
}

/** `docker push` of a tag that the engine has. `login` is what the engine wants as X-Registry-Auth. Returns the digest of the manifest. */
export async function pushImage(tag: string, login: Readonly<Record<string, string>>): Promise<string> {
  const colon = tag.lastIndexOf(':');
  const path = `/images/${encodeURIComponent(tag.slice(0, colon))}/push?${new URLSearchParams({ tag: tag.slice(colon + 1) })}`;
  // With the padding that base64url leaves out, without which the engine ignores it.
  const auth = Buffer.from(JSON.stringify(login)).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  const answer = await call('POST', path, { headers: { 'x-registry-auth': auth } });
  const failure = streamedError(answer.body);
  if (answer.status !== 200 || failure) throw new Error(`${tag} could not be pushed: ${failure ?? message(answer)}`);
  const digest = /"Digest":"(sha256:[0-9a-f]{64})"/.exec(answer.body)?.[1];
  if (digest === undefined) throw new Error(`${tag} was pushed, but the engine does not say its digest`);
  return digest;
}

function message(answer: Answer): string {
  try {
    const parsed: { message?: string } = JSON.parse(answer.body);
    return parsed.message ?? `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`; // not JSON: the status says all there is
  }
}

/** load and build answer 200 and tell of errors in a line of the body. */
function streamedError(body: string): string | null {
  for (const line of body.split('\n')) {
    if (!line.includes('"error"')) continue;
    const parsed: { error?: string } = JSON.parse(line);
    if (parsed.error) return parsed.error;
  }
  return null;
}
