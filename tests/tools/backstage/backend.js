// Backstage's scaffolder without the rest of Backstage: its own router, task worker and actions, started over services
// that live in this process. A task is created by a request to the router, as the page in a browser does it: so
// answers are refused, steps are numbered and tasks are run by Backstage's code and by nothing else.
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
const AT_THE_SAME_TIME = 4;

/** Starts the router on a socket; returns what creates a task from a template's reference, answers and secrets. */
async function startBackend({ load, workspaces, socket, tasks, templates }) {
  const services = makeServices(load, workspaces, templates);
  // The package does not export its router.
  const { createRouter } = load('./dist/service/router.cjs.js');
  const router = await createRouter({
    ...services,
    actions: makeActions(load, services).map(action => tasks.observe(action)),
    taskBroker: tasks,
    concurrentTasksLimit: AT_THE_SAME_TIME,
  });
  const app = load('express')();
  app.use(router);
  app.use(answerError);
  const server = http.createServer(app).listen(socket);
  await once(server, 'listening');
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_THE_SAME_TIME });
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
    async getEntityByRef(given) {
      const ref = typeof given === 'string' ? given : stringifyEntityRef(given);
      // A copy, as every request to a real catalog gets one.
      return structuredClone(ref === USER_REF ? USER : templates.get(ref));
    },
    addLocation: async () => ({ entities: [registered] }),
  };
}

async function refuseNetwork(url) {
  throw new Error(`${url} is not read: there is no network here`);
}

/** The built-in actions, which are real, and those that would write to a server, which only answer. */
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

/** Does what the backend around a router does: the client's mistakes are 400 and 404, all else is ours. */
function answerError(error, _request, response, _next) {
  const status = { InputError: 400, NotFoundError: 404 }[error.name] ?? 500;
  response.status(status).json({ errors: [{ stack: `${error.name}: ${error.message}` }] });
}

/** Returns {id} of the task, or {refused}: the messages of a 400. Throws on every other answer. */
async function createTask(connection, request) {
  const { status, text } = await post(connection, '/v2/tasks', JSON.stringify(request));
  if (status === 201) {
    return { id: JSON.parse(text).id };
  }
  if (status === 400) {
    return { refused: JSON.parse(text).errors.map(sentence) };
  }
  throw new Error(`the router answered ${status}: ${text}`);
}

/** An answer's error names the answer in its stack, "instance.x is not …"; a secret's does so in its message. */
function sentence({ property, message, stack }) {
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
