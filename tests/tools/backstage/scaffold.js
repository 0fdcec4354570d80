// Runs Backstage's scaffolder for scaffolder.py:   node scaffold.js FOLDER_OF_NODE_MODULES WORK_FOLDER
// One line of JSON a request on standard input, one line of JSON an answer on standard output.
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
  // Standard output is for answers; packages that print mean standard error.
  global.console = new console.Console(process.stderr);
  process.umask(0o022);
  const find = createRequire(path.join(installed, 'package.json'));
  // Every package is the one that the scaffolder itself sees.
  const load = createRequire(find.resolve(PACKAGE));
  const tasks = new Tasks(await makeFolder(workFolder, 'kept'));
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

/** Returns when all of it has been written: the end of the process would cut it off. */
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
  // When one breaks, the others still write.
  await Promise.allSettled(runs);
  return Promise.all(runs);
}

async function outcome(load, { error, actions, output, log, keptIn }, folder) {
  if (error) {
    return { error, actions, output, log };
  }
  // This one copies, with modes and links, where it has to: to another file system.
  await load('fs-extra').move(keptIn, folder);
  return { folder, actions, output, log };
}

main(process.argv.slice(2));
