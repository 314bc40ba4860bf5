/**
 * `@huggingface/jinja`, with what it does differently from Python's Jinja put right where chat templates are likely
 * to meet it. Upstream findings in 0.5.11, each of them silent:
 *  - a `set` in a loop's body is seen by the next iteration;
 *  - `break` and `continue` drop what the iteration has printed so far;
 *  - true, false and lists print as in JavaScript, none as nothing; `~` cannot join them.
 *
 * What else is missing is listed in tests/model/chat_template_test.ts.
 *
 * @module
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/** A value of the interpreter: its classes are not exported. */
interface Value {
  type: string;
  value: unknown;
}

/** A node of the syntax tree. */
interface Node {
  type: string;
  body?: Node[];
  operator?: { value: string };
  left?: Node;
  right?: Node;
}

/** The interpreter's methods that are overridden: private to its types, not at run time. */
interface Internals {
  evaluate(node: Node | undefined, scope: Environment): Value;
  evaluateBlock(nodes: Node[], scope: Environment): Value;
  evaluateFor(node: Node, scope: Environment): Value;
  evaluateBinaryExpression(node: Node, scope: Environment): Value;
}

const Base = Interpreter as unknown as new (environment: Environment) => Internals;

/** `break` or `continue` on its way to its loop. */
class LoopControl extends Error {
  loop: Loop | null = null;

  constructor(readonly kind: "break" | "continue", public text = "") {
    super(kind);
  }
}

/** A loop that is running: its body and what the finished iterations printed. */
interface Loop {
  body: Node[];
  text: string;
}

const STATEMENTS = new Set(["Set", "If", "For", "Macro", "CallStatement", "FilterStatement", "Comment"]);

class PythonInterpreter extends Base {
  #loop: Loop | null = null;

  override evaluate(node: Node | undefined, scope: Environment): Value {
    if (node?.type === "Break") throw new LoopControl("break");
    if (node?.type === "Continue") throw new LoopControl("continue");
    return super.evaluate(node, scope);
  }

  override evaluateBlock(nodes: Node[], scope: Environment): Value {
    const loop = this.#loop?.body === nodes ? this.#loop : null;
    if (loop !== null) scope = new Environment(scope);
    let text = "";
    try {
      for (const node of nodes) {
        const value = this.evaluate(node, scope);
        if (!STATEMENTS.has(node.type)) text += pythonString(value);
        else if (value.type === "StringValue") text += value.value;
      }
    } catch (error) {
      if (!(error instanceof LoopControl) || error.loop !== null) throw error;
      error.text = text + error.text;
      if (loop === null) throw error;
      text = error.text;
      if (error.kind === "break") {
        error.loop = loop;
        loop.text += text;
        throw error;
      }
    }
    if (loop !== null) loop.text += text;
    return this.#string(text, scope);
  }

  override evaluateFor(node: Node, scope: Environment): Value {
    const outer = this.#loop;
    const loop: Loop = { body: node.body ?? [], text: "" };
    this.#loop = loop;
    try {
      return super.evaluateFor(node, scope);
    } catch (error) {
      if (!(error instanceof LoopControl) || error.loop !== loop) throw error;
      return this.#string(loop.text, scope);
    } finally {
      this.#loop = outer;
    }
  }

  override evaluateBinaryExpression(node: Node, scope: Environment): Value {
    if (node.operator?.value !== "~") return super.evaluateBinaryExpression(node, scope);
    const text = pythonString(this.evaluate(node.left, scope)) +
      pythonString(this.evaluate(node.right, scope));
    return this.#string(text, scope);
  }

  #string(text: string, scope: Environment): Value {
    const value = super.evaluateBlock([], scope); // an empty StringValue
    value.value = text;
    return value;
  }
}

/** A parsed template. */
export class JinjaTemplate {
  readonly #program: Node;

  /** Parses with `trim_blocks` and `lstrip_blocks`, as transformers does. Throws what the parser throws. */
  constructor(source: string) {
    this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })) as unknown as Node;
  }

  /** Renders with these variables. Throws what the template raises. */
  render(variables: Readonly<Record<string, unknown>>): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) environment.set(name, value);
    return new PythonInterpreter(environment).evaluate(this.#program, environment).value as string;
  }
}

const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown) => {
    throw new Error(String(message));
  },
  range,
  strftime_now: (format: string) => strftime(new Date(), format),
};

function range(first: number, second?: number, step = 1): number[] {
  const [start, end] = second === undefined || second === null ? [0, first] : [first, second];
  if (step === 0) throw new Error("range() step must not be zero");
  const out: number[] = [];
  for (let i = start; step > 0 ? i < end : i > end; i += step) out.push(i);
  return out;
}

/** The fields of Python's strftime that dates in prompts are made of. */
export function strftime(date: Date, format: string): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const name = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat("en-US", options).format(date);
  const fields: Record<string, () => string> = {
    Y: () => String(date.getFullYear()),
    y: () => two(date.getFullYear() % 100),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    e: () => String(date.getDate()).padStart(2),
    H: () => two(date.getHours()),
    I: () => two(date.getHours() % 12 || 12),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    p: () => date.getHours() < 12 ? "AM" : "PM",
    B: () => name({ month: "long" }),
    b: () => name({ month: "short" }),
    A: () => name({ weekday: "long" }),
    a: () => name({ weekday: "short" }),
    F: () => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`,
    "%": () => "%",
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (whole, plain, field) => {
    const text = fields[field]?.();
    return text === undefined ? whole : plain ? text.replace(/^[0 ](?=.)/, "") : text;
  });
}

/** Python's str() of a value; undefined prints as nothing. */
function pythonString(value: Value): string {
  if (value.type === "UndefinedValue") return "";
  return value.type === "StringValue" ? value.value as string : pythonRepr(value);
}

function pythonRepr(value: Value): string {
  switch (value.type) {
    case "NullValue":
    case "UndefinedValue":
      return "None";
    case "BooleanValue":
      return value.value ? "True" : "False";
    case "StringValue":
      return quoted(value.value as string);
    case "ArrayValue":
      return `[${(value.value as Value[]).map(pythonRepr).join(", ")}]`;
    case "TupleValue": {
      const items = (value.value as Value[]).map(pythonRepr);
      return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
    }
    case "ObjectValue":
      return `{${
        [...value.value as Map<string, Value>].map(([key, item]) => `${quoted(key)}: ${pythonRepr(item)}`)
          .join(", ")
      }}`;
    default:
      return String(value);
  }
}

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const short: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };
  const escaped = text.replace(
    /[\\\p{Cc}]/gu,
    (c) => short[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return quote + escaped.replaceAll(quote, `\\${quote}`) + quote;
}
