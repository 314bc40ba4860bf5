/**
 * The house rules that the compiler cannot see, as rules of `deno lint`:
 *
 * - `kvrm/layers`: a layer imports only the one below it (see `LAYERS`), and a package only where it belongs.
 * - `kvrm/dlopen-only-in-ffi`: `Deno.dlopen` stands in `ffi/` and nowhere else.
 * - `kvrm/mod-reexports-only`: a `mod.ts` holds `export … from` and nothing else.
 * - `kvrm/test-names`: a test's name is the symbol and the rule it keeps.
 *
 * @module
 */

const ROOT = new URL("../", import.meta.url);

/** What each layer may import, besides itself. A folder that is not here (tests, bench, scripts) may import all. */
const LAYERS: Record<string, readonly string[]> = {
  "server.ts": ["mod.ts", "cli", "api", "runtime"],
  "cli": ["api", "runtime"],
  "mod.ts": ["runtime"],
  "api": ["runtime"],
  "runtime": ["ffi"],
  "ffi": [],
};

/** Where a package may be imported, besides tests, bench and scripts. Packages that are not here: anywhere. */
const PACKAGES: Record<string, readonly string[]> = {
  "@std/assert": [],
  "fast-check": [],
  "hono": ["api", "server.ts"],
  "openai": [],
  "playwright-core": [],
};

/** `/repo/runtime/kv/pager.ts` is in the layer `runtime`, `/repo/server.ts` in `server.ts`. */
function layerOf(path: string): string {
  const root = ROOT.pathname;
  const relative = path.startsWith(root) ? path.slice(root.length) : path;
  return relative.split("/")[0] ?? "";
}

const isTest = (path: string) => path.endsWith("_test.ts");

function checkImport(context: Deno.lint.RuleContext, node: Deno.lint.Node, specifier: string) {
  if (isTest(context.filename)) return;
  const from = layerOf(context.filename);
  const allowed = LAYERS[from];
  if (allowed === undefined) return;

  if (/^\.{0,2}\//.test(specifier)) {
    if (!specifier.endsWith(".ts")) return; // data, such as deno.json for the version
    const to = layerOf(new URL(specifier, `file://${context.filename}`).pathname);
    if (to === from || allowed.includes(to)) return;
    const wanted = allowed.length ? allowed.map((x) => `\`${x}\``).join(", ") : "itself alone";
    context.report({
      node,
      message: `\`${from}\` imports \`${to}\`, wanted ${wanted}`,
      hint: "A call goes one layer down; what both layers need belongs into the lower one.",
    });
    return;
  }
  for (const [name, places] of Object.entries(PACKAGES)) {
    if ((specifier !== name && !specifier.startsWith(`${name}/`)) || places.includes(from)) continue;
    context.report({
      node,
      message: `\`${from}\` imports the package \`${name}\`, wanted only in ${
        [...places, "tests"].join(", ")
      }`,
    });
  }
}

const layers: Deno.lint.Rule = {
  create: (context) => ({
    ImportDeclaration: (node) => checkImport(context, node, node.source.value),
    ExportAllDeclaration: (node) => checkImport(context, node, node.source.value),
    ExportNamedDeclaration(node) {
      if (node.source) checkImport(context, node, node.source.value);
    },
    ImportExpression(node) {
      const specifier = textOf(node.source);
      if (specifier !== null) checkImport(context, node, specifier);
    },
    // A worker's module is an import too: new URL("./worker.ts", import.meta.url)
    NewExpression(node) {
      const [first, second] = node.arguments;
      if (node.callee.type !== "Identifier" || node.callee.name !== "URL" || !first || !second) return;
      const specifier = textOf(first);
      if (specifier?.endsWith(".ts")) checkImport(context, node, specifier);
    },
  }),
};

const dlopenOnlyInFfi: Deno.lint.Rule = {
  create: (context) => ({
    MemberExpression(node) {
      if (node.object.type !== "Identifier" || node.object.name !== "Deno") return;
      const property = node.computed ? textOf(node.property) : (node.property as Deno.lint.Identifier).name;
      if (property !== "dlopen" || layerOf(context.filename) === "ffi") return;
      context.report({
        node,
        message: "`Deno.dlopen` outside `ffi/`",
        hint: "Ask `ffi/mod.ts` for the library: one place checks its layout and holds the permission.",
      });
    },
  }),
};

const modReexportsOnly: Deno.lint.Rule = {
  create: (context) => ({
    Program(program) {
      if (!context.filename.endsWith("/mod.ts")) return;
      for (const node of program.body) {
        if (node.type === "ExportAllDeclaration") continue;
        if (node.type === "ExportNamedDeclaration" && node.source) continue;
        context.report({
          node,
          message: "a `mod.ts` only re-exports",
          hint: "Move this into a file of its own.",
        });
      }
    },
  }),
};

/** `BlockPager.release() keeps …`, `POST /v1/completions streams …`, `server.ts exits …`, `engineLoop stops …` */
const TEST_NAME = /^(?=\S*[A-Z0-9._()/@-])[\w$@./[\]<>{}*#-]+(\(.*?\))?:? \S.*[^.\s]$/s;

const testNames: Deno.lint.Rule = {
  create: (context) => ({
    CallExpression(node) {
      if (!isTest(context.filename) || !isDenoTest(node.callee)) return;
      const [first] = node.arguments;
      const named = first?.type === "ObjectExpression" ? propertyOf(first, "name") : first;
      if (!named) return;
      const name = textOf(named);
      if (name === null || TEST_NAME.test(name)) return;
      context.report({
        node: named,
        message: `the test's name ${context.sourceCode.getText(named)} does not state a symbol and its rule`,
        hint: 'Like "BlockPager.release() keeps a shared block until its last reader", without a full stop.',
      });
    },
  }),
};

/** `Deno.test`, `Deno.test.only`, `Deno.test.ignore` */
function isDenoTest(callee: Deno.lint.Node): boolean {
  if (callee.type !== "MemberExpression" || callee.property.type !== "Identifier") return false;
  const { object, property } = callee;
  if (object.type === "Identifier") return object.name === "Deno" && property.name === "test";
  return (property.name === "only" || property.name === "ignore") && isDenoTest(object);
}

function propertyOf(object: Deno.lint.ObjectExpression, name: string): Deno.lint.Node | undefined {
  for (const property of object.properties) {
    if (property.type !== "Property" || property.key.type !== "Identifier") continue;
    if (property.key.name === name) return property.value;
  }
  return undefined;
}

/** The text of a literal, with `${…}` of a template read as `X Y`; null when it is not a literal. */
function textOf(node: Deno.lint.Node): string | null {
  if (node.type === "Literal" && typeof node.value === "string") return node.value;
  if (node.type === "TemplateLiteral") return node.quasis.map((quasi) => quasi.cooked).join("X Y");
  return null;
}

const plugin: Deno.lint.Plugin = {
  name: "kvrm",
  rules: {
    "layers": layers,
    "dlopen-only-in-ffi": dlopenOnlyInFfi,
    "mod-reexports-only": modReexportsOnly,
    "test-names": testNames,
  },
};
export default plugin;
