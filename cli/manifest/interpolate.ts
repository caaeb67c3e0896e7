/** `${env:NAME}` in variables of a manifest: the variable NAME of who runs fn. `$${` is a plain `${`. */
import type { Merged } from './merge.ts';

const PATTERN = /\$\$\{|\$\{env:([^}]*)\}/g;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The variables with their values. Values that were typed (flags) stay as they are: a shell had them already. */
export function interpolate(
  { values, origins }: Merged,
  variables: Readonly<Record<string, string | undefined>>,
  fault: (variable: string, message: string) => void,
): Record<string, string> | undefined {
  if (values.env === undefined) return undefined;
  const entries = Object.entries(values.env).map(([variable, value]): [string, string] => {
    const origin = origins.get(`env.${variable}`);
    if (origin === undefined || !('path' in origin)) return [variable, value];
    const text = value.replace(PATTERN, (whole, name: string | undefined) => {
      if (name === undefined) return '${';
      const found = NAME.test(name) ? variables[name] : undefined;
      if (found === undefined)
        fault(
          variable,
          NAME.test(name)
            ? `the variable ${name} is not set where fn runs; $\${ is a plain \${`
            : `${whole} names no variable: \${env:NAME}`,
        );
      return found ?? '';
    });
    return [variable, text];
  });
  return Object.fromEntries(entries);
}
