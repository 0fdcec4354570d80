// Tasks as the scaffolder's worker wants them, in a queue in memory. Backstage keeps them in a database.
'use strict';

const { randomUUID } = require('node:crypto');
const path = require('node:path');
const fs = require('node:fs/promises');
const { stripVTControlCharacters } = require('node:util');

class Task {
  done = false;
  isDryRun = false;
  cancelSignal = new AbortController().signal;
  log = [];
  actions = [];
  failedStep = null;
  keptIn = null;
  #servedSteps = 0;
  #end;

  constructor({ spec, secrets, createdBy }, keepFolder) {
    this.taskId = randomUUID();
    // A database turns it into text and back.
    this.spec = JSON.parse(JSON.stringify(spec));
    this.secrets = JSON.parse(JSON.stringify(secrets));
    this.createdBy = createdBy;
    this.keepFolder = keepFolder;
    this.finished = new Promise(resolve => {
      this.#end = resolve;
    });
  }

  async getWorkspaceName() {
    return this.taskId;
  }

  async getInitiatorCredentials() {
    return JSON.parse(this.secrets.__initiatorCredentials);
  }

  async emitLog(message, { stepId, status } = {}) {
    this.log.push(stripVTControlCharacters(message));
    if (status === 'failed') {
      this.failedStep ??= stepId;
    }
  }

  /** Is called after every step, also after one that was left out; the workspace is removed after the last. */
  async serializeWorkspace({ path: workspace }) {
    this.#servedSteps += 1;
    if (this.#servedSteps === this.spec.steps.length && !this.failedStep) {
      this.keptIn = path.join(this.keepFolder, this.taskId);
      // Moved, not copied: modes and links stay what they are.
      await fs.rename(workspace, this.keptIn);
    }
  }

  async complete(_status, { error, output }) {
    this.done = true;
    this.error = error ? `${this.failedStep ?? 'template'}: ${error.message}` : null;
    this.output = output ?? {};
    this.#end();
  }
}

/** What the router gives new tasks to and the worker takes them from. */
class Tasks {
  #all = new Map();
  #waiting = [];
  #claims = [];

  constructor(keepFolder) {
    this.keepFolder = keepFolder;
  }

  async dispatch(request) {
    const task = new Task(request, this.keepFolder);
    this.#all.set(task.taskId, task);
    this.#waiting.push(task);
    this.#match();
    return { taskId: task.taskId };
  }

  async claim() {
    return new Promise(resolve => {
      this.#claims.push(resolve);
      this.#match();
    });
  }

  #match() {
    while (this.#waiting.length && this.#claims.length) {
      this.#claims.shift()(this.#waiting.shift());
    }
  }

  /** The action, noting with the task what it is given: by then every `${{ }}` of its input has been rendered. */
  observe(action) {
    const handler = async context => {
      const { input, step, task } = context;
      this.#all.get(task.id).actions.push({ step: step.id, action: action.id, input: structuredClone(input) });
      return action.handler(context);
    };
    return { ...action, handler };
  }

  /** Waits for the end of a task, and forgets it. */
  async result(id) {
    const task = this.#all.get(id);
    await task.finished;
    this.#all.delete(id);
    return task;
  }
}

module.exports = { Tasks };
