import { functionCrd } from '#contract/function-crd.ts';
import { stringify } from 'yaml';

/** The definition of the kind Function, as the chart and `kubectl apply` take it: YAML. */
export function functionCrdText(): string {
  return stringify(functionCrd(), { lineWidth: 140, aliasDuplicateObjects: false });
}
