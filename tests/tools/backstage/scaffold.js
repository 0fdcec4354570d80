// Runs Backstage's scaffolder for scaffolder.py:   node scaffold.js FOLDER_OF_NODE_MODULES WORK_FOLDER
// Reads one line of JSON per request from standard input, and writes one line of JSON per answer to standard output.
'use strict';

const { createRequire } = require('node:module');
const fs = require('node:fs/promises');
const path = require('node:path');
const readline = require('node:readline');

const { startBackend } = require('./backend');
const { readCatalog } = require('./catalog');
const { Tasks } = require('./tasks');
const { readTemplate } = require('./templates');

const PACKAGE = '@backstage/plugin-scaffolder-backend/package.json';

async function main([installed, workFolder]) {
  // Standard output is for answers only, so packages print to standard error.
  global.console = new console.Console(process.stderr);
  process.umask(0o022);
  const fromFolder = createRequire(path.join(installed, 'package.json'));
  // Resolves every package as the scaffolder itself does.
  const load = createRequire(fromFolder.resolve(PACKAGE));
  const tasks = new Tasks(await makeFolder(workFolder, 'finished'));
  const templates = new Map();
  const workspaces = await makeFolder(workFolder, 'workspaces');
  const socket = path.join(workFolder, 'socket');
  const createTask = await startBackend({ load, workspaces, socket, tasks, templates });
  const calls = {
    validate: ({ template }) => readTemplate(load, template).then(({ messages }) => messages),
    catalog: ({ file }) => readCatalog(load, file),
    generate: request => generate({ load, tasks, templates, createTask }, request),
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await print(await answer(calls, JSON.parse(line)));
  }
  process.exit();
}

/** Resolves when all of the line is written: process.exit() would truncate it. */
function print(value) {
  return new Promise(resolve => process.stdout.write(`${JSON.stringify(value)}\n`, resolve));
}

async function makeFolder(...parts) {
  const folder = path.join(...parts);
  await fs.mkdir(folder);
  return folder;
}

async function answer(calls, { call, ...request }) {
  try {
    return { result: await calls[call](request) };
  } catch (error) {
    return { failure: error.stack };
  }
}

async function generate({ load, tasks, templates, createTask }, { template, cases, secrets, output }) {
  const { entity, messages } = await readTemplate(load, template);
  if (!entity) {
    throw new Error(`${template} is not accepted: ${messages.join('; ')}`);
  }
  const ref = load('@backstage/catalog-model').stringifyEntityRef(entity);
  templates.set(ref, entity);
  const runs = cases.map(async (values, index) => {
    const { id, refused } = await createTask(ref, values, secrets);
    return refused ? { refused } : outcome(load, await tasks.result(id), path.join(output, String(index)));
  });
  // Wait for all runs before the first error is thrown: the others still write files.
  await Promise.allSettled(runs);
  return Promise.all(runs);
}

async function outcome(load, { error, actions, output, log, savedIn }, folder) {
  if (error) {
    return { error, actions, output, log };
  }
  // Moves to another file system too, and keeps modes and links.
  await load('fs-extra').move(savedIn, folder);
  return { folder, actions, output, log };
}

main(process.argv.slice(2));
