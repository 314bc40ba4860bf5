/**
 * What deploy/ holds, by the tools that read it where they are here, and by what it says about the server.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync } from "node:fs";
import { readArguments } from "../../cli/arguments.ts";
import { OPTIONS, variableOf } from "../../cli/options.ts";
import config from "../../deno.json" with { type: "json" };

const ROOT = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");
const DEPLOY = `${ROOT}/deploy`;
const read = (path: string) => Deno.readTextFileSync(`${DEPLOY}/${path}`);

async function bash(script: string): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-o", "pipefail", "-c", script],
    env: { DEPLOY, NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { success, output: text(stdout) + text(stderr) };
}

/** What each tool says about its files; those that are not installed are skipped, and the test's name tells why. */
const TOOLS: [tool: string, about: string, script: string][] = [
  ["hadolint", "the Dockerfile", "hadolint $DEPLOY/docker/Dockerfile"],
  [
    "systemd-analyze",
    "the unit",
    // The program need not be installed here.
    "d=$(mktemp -d) && trap 'rm -r $d' EXIT && " +
    "sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' $DEPLOY/systemd/kvrm.service >$d/kvrm.service && " +
    "! systemd-analyze verify --man=no $d/kvrm.service 2>&1 | grep .",
  ],
  [
    "kubectl",
    "the kustomizations",
    "for o in base gpu; do kubectl kustomize $DEPLOY/kubernetes/$o | grep -q 'kind: Deployment' || exit 1; done",
  ],
  [
    "kubernetes-validate",
    "the objects of Kubernetes",
    "for f in $DEPLOY/kubernetes/base/[!k]*.yaml " +
    "$DEPLOY/kubernetes/autoscale_hpa.yaml; do kubernetes-validate --strict $f || exit 1; done",
  ],
  [
    "otelcol",
    "the collector's file",
    "OTLP_BACKEND=http://x otelcol validate --config=$DEPLOY/otel/collector.yaml",
  ],
];
for (const [tool, about, script] of TOOLS) {
  const { success: there } = await bash(`command -v ${tool}`);
  const name = `deploy/: ${tool} accepts ${about}${there ? "" : `; skipped, for ${tool} is not installed`}`;
  Deno.test(name, { ignore: !there }, async () => {
    const { success, output } = await bash(script);
    assert(success, output);
  });
}

const MANIFESTS = [
  "docker/Dockerfile",
  "kubernetes/base/deployment.yaml",
  "kubernetes/gpu/kustomization.yaml",
  "knative/service.yaml",
  "kserve/runtime.yaml",
  "systemd/kvrm.service",
];

Deno.test("deploy/: every flag and variable is one that the server knows", () => {
  for (const path of MANIFESTS) {
    const text = read(path).replace(/#.*$/gm, "");
    for (const [, list] of text.matchAll(/^\s*(?:args|value): (\["--[^\]]*\])/gm)) {
      const args = JSON.parse(list!) as string[];
      assertEquals(readArguments(args, () => undefined).kind, "serve", path);
    }
    for (const [, variable] of text.matchAll(/\b(KVRM_[A-Z_]+)\b/g)) {
      assert(Object.keys(OPTIONS).map(variableOf).includes(variable!), `${path}: ${variable}`);
    }
  }
});

Deno.test("deploy/: whoever stops the server waits longer than --drain-timeout", () => {
  const number = (text: string, pattern: RegExp) => Number(pattern.exec(text)?.[1]);
  const deployment = read("kubernetes/base/deployment.yaml");
  const grace = number(deployment, /terminationGracePeriodSeconds: (\d+)/);
  const pause = number(deployment, /sleep: \{ seconds: (\d+) \}/);
  assert(grace >= pause + number(deployment, /KVRM_DRAIN_TIMEOUT, value: "(\d+)"/) + 5, "Deployment");
  const unit = read("systemd/kvrm.service");
  assert(number(unit, /TimeoutStopSec=(\d+)/) >= number(unit, /KVRM_DRAIN_TIMEOUT=(\d+)/) + 5, "unit");
  const knative = read("knative/service.yaml");
  assert(number(knative, /timeoutSeconds: (\d{3,})/) > number(knative, /--drain-timeout=(\d+)/), "Knative");
});

Deno.test("scripts/service_config.sh leaves out just the packages that the program does not import", () => {
  const script = Deno.readTextFileSync(`${ROOT}/scripts/service_config.sh`);
  const [, pattern] = /sed -E '\/([^']*)\/d'/.exec(script) ?? [];
  assert(pattern !== undefined);
  const removed = new RegExp(pattern!);
  const kept = Object.keys(config.imports).filter((name) => !removed.test(`    "${name}": `));
  const imported = new Set<string>();
  for (const path of sources(["api", "cli", "ffi", "runtime", "server.ts", "mod.ts"])) {
    const text = Deno.readTextFileSync(`${ROOT}/${path}`);
    for (const [, specifier] of text.matchAll(/^(?:import|export)\b[^;]*?"((?:@[\w-]+\/)?[\w-]+)[^"]*";/gm)) {
      imported.add(specifier!);
    }
    for (const [, specifier] of text.matchAll(/import\("((?:@[\w-]+\/)?[\w-]+)[^"]*"\)/g)) {
      imported.add(specifier!);
    }
  }
  assertEquals(kept.sort(), Object.keys(config.imports).filter((name) => imported.has(name)).sort());
});

Deno.test("deploy/docker/Dockerfile copies every folder of the program, past its .dockerignore", () => {
  const dockerfile = read("docker/Dockerfile"), ignore = read("docker/Dockerfile.dockerignore");
  for (const folder of ["api", "cli", "ffi", "runtime", "web"]) {
    assert(existsSync(`${ROOT}/${folder}`));
    assertStringIncludes(dockerfile, `COPY ${folder} ${folder}\n`);
    assertStringIncludes(ignore, `!${folder}\n`);
  }
});

function sources(paths: readonly string[]): string[] {
  return paths.flatMap((path) =>
    path.endsWith(".ts")
      ? [path]
      : [...Deno.readDirSync(`${ROOT}/${path}`)].flatMap(({ name, isDirectory }) =>
        isDirectory || name.endsWith(".ts") ? sources([`${path}/${name}`]) : []
      )
  );
}
