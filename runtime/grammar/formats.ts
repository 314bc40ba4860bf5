/**
 * Formats of texts that JSON Schema names. Others say nothing of a value, as the standard has it.
 *
 * @module
 */

const OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const DATE = "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" +
  "02-(0[1-9]|1[0-9]|2[0-8]))";
const TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const HEX = "[0-9a-fA-F]";

const PATTERNS: Readonly<Record<string, string>> = {
  "date": DATE,
  "time": TIME,
  "date-time": `${DATE}T${TIME}`,
  "duration":
    "P([1-9][0-9]{0,2}Y)?([1-9][0-9]{0,2}M)?[1-9][0-9]{0,2}D|PT[1-9][0-9]{0,3}[HMS]|P[1-9][0-9]{0,2}W",
  "uuid": `${HEX}{8}-${HEX}{4}-${HEX}{4}-${HEX}{4}-${HEX}{12}`,
  "ipv4": `${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}`,
  "email":
    "[A-Za-z0-9_+-]{1,24}(\\.[A-Za-z0-9_+-]{1,12}){0,2}@[a-z0-9]{1,32}(\\.[a-z0-9]{1,32}){0,3}\\.[a-z]{2,12}",
  "hostname": "[a-z0-9]{1,32}(\\.[a-z0-9]{1,32}){0,4}",
};

/** A pattern for some of the texts of a format: null for a format that is not checked. */
export function formatPattern(format: string): string | null {
  return Object.hasOwn(PATTERNS, format) ? PATTERNS[format]! : null;
}
