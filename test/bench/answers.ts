/** Where an answer ends, as cheaply as it can be told. */

/** Number behind the first of these that is there, or -1. */
function numberAfter(text: string, end: number, spellings: readonly string[]): number {
  for (const spelling of spellings) {
    const at = text.indexOf(spelling);
    if (at >= 0 && at < end) return Number.parseInt(text.slice(at + spelling.length, at + spelling.length + 12), 10);
  }
  return -1;
}

/** As Node, undici and the gateway write it: looking for these costs less than lower-casing what is there. */
const CONTENT_LENGTH = ['\r\ncontent-length: ', '\r\nContent-Length: '];
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;

/** Where the answer that begins the text ends, or −1 while it is incomplete. Content-Length or chunked. */
export function answerEnd(text: string): number {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return -1;
  const length = numberAfter(text, head, CONTENT_LENGTH);
  if (length >= 0) {
    const end = head + 4 + length;
    return text.length >= end ? end : -1;
  }
  if (!CHUNKED.test(text.slice(0, head + 2))) return head + 4;
  const last = text.indexOf('0\r\n\r\n', head + 2);
  return last < 0 ? -1 : last + 5;
}
