// Backstage's scaffolder without the rest of Backstage: its own router, task worker and actions, with services that
// live in this process. Tasks are created by requests to the router, as the page in a browser creates them. So only
// Backstage's code checks answers, numbers steps and runs tasks.
'use strict';

const { once } = require('node:events');
const http = require('node:http');

const USER = {
  apiVersion: 'backstage.io/v1alpha1',
  kind: 'User',
  metadata: { name: 'tester', namespace: 'default' },
  spec: { profile: { displayName: 'Tester', email: 'tester@example.com' }, memberOf: ['group:default/team-a'] },
};
const USER_REF = 'user:default/tester';
const MAX_CONCURRENT_TASKS = 4;

/** Starts the router on a socket; returns a function that creates a task from a template, answers and secrets. */
async function startBackend({ load, workspaces, socket, tasks, templates }) {
  const services = makeServices(load, workspaces, templates);
  // The package does not export its router.
  const { createRouter } = load('./dist/service/router.cjs.js');
  const router = await createRouter({
    ...services,
    actions: makeActions(load, services).map(action => tasks.observe(action)),
    taskBroker: tasks,
    concurrentTasksLimit: MAX_CONCURRENT_TASKS,
  });
  const app = load('express')();
  app.use(router);
  app.use(answerError);
  const server = http.createServer(app).listen(socket);
  await once(server, 'listening');
  const agent = new http.Agent({ keepAlive: true, maxSockets: MAX_CONCURRENT_TASKS });
  return (templateRef, values, secrets) => createTask({ socketPath: socket, agent }, { templateRef, values, secrets });
}

function makeServices(load, workspaces, templates) {
  const { ConfigReader } = load('@backstage/config');
  const config = new ConfigReader({ backend: { workingDirectory: workspaces } });
  return {
    config,
    integrations: load('@backstage/integration').ScmIntegrations.fromConfig(config),
    logger: makeLogger(),
    metrics: { createCounter: () => ({ add() {} }), createHistogram: () => ({ record() {} }) },
    catalog: makeCatalog(load, templates),
    reader: { readUrl: refuseNetwork, readTree: refuseNetwork, search: refuseNetwork },
    httpAuth: { credentials: async () => ({ principal: { type: 'user', userEntityRef: USER_REF } }) },
    auth: { isPrincipal: (credentials, type) => credentials.principal.type === type },
    permissionsRegistry: { addResourceType() {}, addPermissions() {} },
    actionsRegistry: { list: async () => ({ actions: [] }) },
  };
}

function makeLogger() {
  const silent = () => {};
  const logger = { debug: silent, info: silent, warn: silent, error: console.error, child: () => logger };
  return logger;
}

function makeCatalog(load, templates) {
  const { stringifyEntityRef } = load('@backstage/catalog-model');
  const registered = { kind: 'Component', metadata: { name: 'registered', namespace: 'default' } };
  return {
    async getEntityByRef(refOrParts) {
      const ref = typeof refOrParts === 'string' ? refOrParts : stringifyEntityRef(refOrParts);
      // A copy, because each request to a real catalog returns a new object.
      return structuredClone(ref === USER_REF ? USER : templates.get(ref));
    },
    addLocation: async () => ({ entities: [registered] }),
  };
}

async function refuseNetwork(url) {
  throw new Error(`${url} is not read: there is no network here`);
}

/** Returns the built-in actions, and replacements of those that write to a server: they only return outputs. */
function makeActions(load, services) {
  const backend = load('./dist/index.cjs.js');
  return [
    backend.createFetchTemplateAction(services),
    backend.createFetchTemplateFileAction(services),
    backend.createFetchPlainAction(services),
    backend.createFetchPlainFileAction(services),
    backend.createFetchCatalogEntityAction(services),
    backend.createCatalogRegisterAction(services),
    backend.createCatalogWriteAction(),
    backend.createDebugLogAction(),
    backend.createWaitAction(),
    backend.createFilesystemDeleteAction(),
    backend.createFilesystemRenameAction(),
    backend.createFilesystemReadDirAction(),
    makePublishAction(load, services, 'publish:github', 'blob'),
    makePublishAction(load, services, 'publish:gitlab', '-/blob'),
  ];
}

function makePublishAction(load, { integrations }, id, blob) {
  const { createTemplateAction, parseRepoUrl } = load('@backstage/plugin-scaffolder-node');
  return createTemplateAction({
    id,
    async handler(context) {
      const { repoUrl, defaultBranch = 'main' } = context.input;
      const { host, owner, repo } = parseRepoUrl(repoUrl, integrations);
      const address = `https://${host}/${owner}/${repo}`;
      context.output('remoteUrl', `${address}.git`);
      context.output('repoContentsUrl', `${address}/${blob}/${defaultBranch}`);
      context.output('commitHash', '0'.repeat(40));
    },
  });
}

/** Maps errors to statuses as Backstage's backend does: errors of the client to 400 and 404, others to 500. */
function answerError(error, _request, response, _next) {
  const status = { InputError: 400, NotFoundError: 404 }[error.name] ?? 500;
  response.status(status).json({ errors: [{ stack: `${error.name}: ${error.message}` }] });
}

/** Returns the task's {id}, or the messages of a status 400 as {refused}. Throws on any other status. */
async function createTask(connection, request) {
  const { status, text } = await post(connection, '/v2/tasks', JSON.stringify(request));
  if (status === 201) {
    return { id: JSON.parse(text).id };
  }
  if (status === 400) {
    return { refused: JSON.parse(text).errors.map(describe) };
  }
  throw new Error(`the router answered ${status}: ${text}`);
}

/** Returns the text that names the value: an answer's stack ("instance.x is not …"), a secret's message. */
function describe({ property, message, stack }) {
  return property?.startsWith('secrets') ? message : stack;
}

function post({ socketPath, agent }, address, body) {
  const headers = { 'Content-Type': 'application/json' };
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, agent, path: address, method: 'POST', headers }, response => {
      const parts = [];
      response.on('data', part => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, text: Buffer.concat(parts).toString() }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

module.exports = { startBackend };
