/** `node helm/schema.ts` writes helm/fn/values.schema.json. A test holds the file to what this would write. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { valuesSchemaText } from './values.ts';

const path = join(import.meta.dirname, 'fn', 'values.schema.json');
writeFileSync(path, valuesSchemaText());
process.stdout.write(`${path}\n`);
