/** Which events a trigger wants: patterns as EventBridge and Lambda have them (see EventFilter of contract/trigger.ts). Pure. */

const MAX_DEPTH = 16;
const OPERATORS = ['=', '<', '<=', '>', '>='] as const;
type Operator = (typeof OPERATORS)[number];
type Scalar = string | number | boolean | null;

const isScalar = (value: unknown): value is Scalar =>
  value === null || typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const show = (path: readonly string[]): string => (path.length === 0 ? 'The filter' : path.join('.'));

/** What is wrong with a filter, and where; null: it can be matched. */
export function checkFilter(filter: unknown): string | null {
  return isRecord(filter) ? checkObject(filter, []) : 'The filter must be an object such as {"data": {"status": ["paid"]}}.';
}

function checkObject(pattern: Record<string, unknown>, path: readonly string[]): string | null {
  if (path.length > MAX_DEPTH) return `${show(path)} is nested more than ${MAX_DEPTH} deep.`;
  const entries = Object.entries(pattern);
  if (entries.length === 0) return `${show(path)} is empty: name the fields that decide, each with a list of what it may be.`;
  for (const [name, value] of entries) {
    const here = [...path, name];
    const fault = Array.isArray(value) ? checkLeaves(value, here) : isRecord(value) ? checkObject(value, here) : notAList(value, here);
    if (fault !== null) return fault;
  }
  return null;
}

const notAList = (value: unknown, path: readonly string[]): string =>
  `${show(path)} must be a list of what it may be, such as [${JSON.stringify(value) ?? 'null'}], or an object of fields.`;

function checkLeaves(leaves: readonly unknown[], path: readonly string[]): string | null {
  if (leaves.length === 0) return `${show(path)} is an empty list, which nothing matches.`;
  for (const leaf of leaves) {
    if (isScalar(leaf)) continue;
    const fault = isRecord(leaf) ? checkRule(leaf, path) : `${show(path)} holds ${JSON.stringify(leaf)}: lists hold values and rules.`;
    if (fault !== null) return fault;
  }
  return null;
}

function checkRule(rule: Record<string, unknown>, path: readonly string[]): string | null {
  const [entry, ...more] = Object.entries(rule);
  if (entry === undefined || more.length > 0) return `${show(path)}: a rule has one name, such as {"prefix": "a"}.`;
  const [name, value] = entry;
  switch (name) {
    case 'prefix':
    case 'suffix':
    case 'equals-ignore-case':
      return typeof value === 'string' ? null : `${show(path)}: ${name} must be text.`;
    case 'exists':
      return typeof value === 'boolean' ? null : `${show(path)}: exists must be true or false.`;
    case 'anything-but':
      return isScalar(value) || isScalars(value) ? null : `${show(path)}: anything-but must be a value or a list of values.`;
    case 'numeric':
      return isNumeric(value) ? null : `${show(path)}: numeric must be [OPERATOR, NUMBER] once or twice, with ${OPERATORS.join(' ')}.`;
    default:
      return `${show(path)}: ${name} is no rule; there are prefix, suffix, equals-ignore-case, exists, anything-but and numeric.`;
  }
}

const isScalars = (value: unknown): value is Scalar[] => Array.isArray(value) && value.length > 0 && value.every(isScalar);
const isOperator = (value: unknown): value is Operator => OPERATORS.some((operator) => operator === value);
const isNumeric = (value: unknown): value is [Operator, number, ...unknown[]] =>
  Array.isArray(value) &&
  (value.length === 2 || value.length === 4) &&
  value.every((one, index) => (index % 2 === 0 ? isOperator(one) : typeof one === 'number' && Number.isFinite(one)));

/** Whether an event is wanted: each field of the filter must match. A list in the event matches where one of its values does. */
export function matches(filter: Readonly<Record<string, unknown>>, event: unknown): boolean {
  return Object.entries(filter).every(([name, wanted]) => {
    const there = isRecord(event) && Object.hasOwn(event, name);
    const value = there ? event[name] : undefined;
    if (Array.isArray(wanted)) return matchesLeaves(wanted, value, there);
    if (!isRecord(wanted)) return false;
    // A list of objects matches where one of them does; fields that must not exist may be looked for in nothing.
    return Array.isArray(value) ? value.some((one) => matches(wanted, one)) : matches(wanted, value);
  });
}

function matchesLeaves(leaves: readonly unknown[], value: unknown, there: boolean): boolean {
  const values: unknown[] = Array.isArray(value) ? value : [value];
  return leaves.some((leaf) => {
    if (isRecord(leaf) && typeof leaf.exists === 'boolean') return leaf.exists === there;
    if (!there) return false;
    // Of a list, none may be what is excluded.
    if (isRecord(leaf) && leaf['anything-but'] !== undefined) return values.every((one) => differs(leaf['anything-but'], one));
    return values.some((one) => (isRecord(leaf) ? matchesRule(leaf, one) : one === leaf));
  });
}

const differs = (excluded: unknown, value: unknown): boolean => (Array.isArray(excluded) ? !excluded.includes(value) : excluded !== value);

function matchesRule(rule: Record<string, unknown>, value: unknown): boolean {
  if (typeof rule.prefix === 'string') return typeof value === 'string' && value.startsWith(rule.prefix);
  if (typeof rule.suffix === 'string') return typeof value === 'string' && value.endsWith(rule.suffix);
  const alike = rule['equals-ignore-case'];
  if (typeof alike === 'string') return typeof value === 'string' && value.toLowerCase() === alike.toLowerCase();
  return isNumeric(rule.numeric) && typeof value === 'number' && compares(rule.numeric, value);
}

function compares(rule: readonly unknown[], value: number): boolean {
  for (let index = 0; index < rule.length; index += 2) {
    const than = Number(rule[index + 1]);
    const holds = { '=': value === than, '<': value < than, '<=': value <= than, '>': value > than, '>=': value >= than };
    const operator = rule[index];
    if (!isOperator(operator) || !holds[operator]) return false;
  }
  return true;
}
