/** Makes thumbnails with sharp: an npm package with a native addon, which is packed along as it is. */
import sharp from 'sharp';

const MAX_PIXELS = 50_000_000;
const FORMATS = ['webp', 'jpeg', 'png', 'avif'] as const;
type Format = (typeof FORMATS)[number];

/** `?width=200&format=webp`; the body is the image. */
export async function POST(request: Request): Promise<Response> {
  const { searchParams } = new URL(request.url);
  const width = Number(searchParams.get('width') ?? 200);
  const format = searchParams.get('format') ?? 'webp';
  if (!Number.isInteger(width) || width < 1 || width > 2_000) return problem('width must be a whole number from 1 to 2000');
  if (!isFormat(format)) return problem(`format must be one of ${FORMATS.join(', ')}`);
  try {
    const { data, info } = await sharp(await request.arrayBuffer(), { limitInputPixels: MAX_PIXELS })
      .rotate()
      .resize({ width, withoutEnlargement: true })
      .toFormat(format)
      .toBuffer({ resolveWithObject: true });
    return new Response(new Uint8Array(data), {
      headers: { 'content-type': `image/${format}`, 'x-image-size': `${info.width}x${info.height}` },
    });
  } catch (error) {
    return problem(`this is not an image that can be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A picture to try it with. */
export async function GET(): Promise<Response> {
  const picture = await sharp({ create: { width: 640, height: 480, channels: 3, background: '#3366cc' } })
    .png()
    .toBuffer();
  return new Response(new Uint8Array(picture), { headers: { 'content-type': 'image/png' } });
}

const isFormat = (text: string): text is Format => FORMATS.some((format) => format === text);
const problem = (detail: string): Response => Response.json({ detail }, { status: 422 });
