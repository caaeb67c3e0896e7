import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeLine, LineSplitter, LineTooLong } from './ndjson.ts';

describe('LineSplitter', () => {
  it('gives the lines that were put in, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { maxLength: 10 }), fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (values, sizes) => {
        const bytes = Buffer.from(values.map(encodeLine).join(''));
        const splitter = new LineSplitter(1_000_000);
        const lines: string[] = [];
        for (let from = 0; from < bytes.length;) {
          const size = sizes.next().value ?? 1;
          lines.push(...splitter.push(bytes.subarray(from, from + size)));
          from += size;
        }
        // What JSON itself does to a value (-0, for one) is not the splitter's affair.
        expect(lines).toEqual(values.map((value) => JSON.stringify(value)));
      }),
    );
  });

  it('keeps characters whole that a chunk cuts', () => {
    const splitter = new LineSplitter(100);
    const bytes = Buffer.from('"ü✓😀"\n');
    expect([...bytes].flatMap((byte) => splitter.push(Buffer.from([byte])))).toEqual(['"ü✓😀"']);
  });

  it('leaves out empty lines, and holds back what has no end yet', () => {
    const splitter = new LineSplitter(100);
    expect(splitter.push(Buffer.from('\n\na\n\nb'))).toEqual(['a']);
    expect(splitter.push(Buffer.from('c\n'))).toEqual(['bc']);
  });

  it.each([
    ['with its end', 'xxxxxx\n'],
    ['without it', 'xxxxxx'],
  ])('refuses a line over its limit, %s', (_name, text) => {
    expect(() => new LineSplitter(5).push(Buffer.from(text))).toThrow(LineTooLong);
    expect(new LineSplitter(6).push(Buffer.from('xxxxxx\n'))).toEqual(['xxxxxx']);
  });

  it('refuses a line that grows over its limit piece by piece', () => {
    const splitter = new LineSplitter(5);
    splitter.push(Buffer.from('xxx'));
    expect(() => splitter.push(Buffer.from('xxx'))).toThrow(LineTooLong);
  });
});
