/** What the operator has set cannot be used. The message says which setting and what to do: nobody needs a stack beside it. */
export class SettingsWrong extends Error {}
