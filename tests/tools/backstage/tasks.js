// A task queue in memory for the scaffolder's worker. Backstage stores tasks in a database.
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
  savedIn = null;
  #finishedSteps = 0;
  #resolve;

  constructor({ spec, secrets, createdBy }, saveFolder) {
    this.taskId = randomUUID();
    // A database serializes both, so values without a JSON form are lost here too.
    this.spec = JSON.parse(JSON.stringify(spec));
    this.secrets = JSON.parse(JSON.stringify(secrets));
    this.createdBy = createdBy;
    this.saveFolder = saveFolder;
    this.finished = new Promise(resolve => {
      this.#resolve = resolve;
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

  /** The worker calls this after every step, also a skipped one, and removes the workspace after the last. */
  async serializeWorkspace({ path: workspace }) {
    this.#finishedSteps += 1;
    if (this.#finishedSteps === this.spec.steps.length && !this.failedStep) {
      this.savedIn = path.join(this.saveFolder, this.taskId);
      // A move keeps modes and links.
      await fs.rename(workspace, this.savedIn);
    }
  }

  async complete(_status, { error, output }) {
    this.done = true;
    this.error = error ? `${this.failedStep ?? 'template'}: ${error.message}` : null;
    this.output = output ?? {};
    this.#resolve();
  }
}

/** The task broker: the router adds tasks, the worker claims them. */
class Tasks {
  #all = new Map();
  #waiting = [];
  #claims = [];

  constructor(saveFolder) {
    this.saveFolder = saveFolder;
  }

  async dispatch(request) {
    const task = new Task(request, this.saveFolder);
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

  /** Returns the action, extended to record its input with the task, after every `${{ }}` has been rendered. */
  observe(action) {
    const handler = async context => {
      const { input, step, task } = context;
      this.#all.get(task.id).actions.push({ step: step.id, action: action.id, input: structuredClone(input) });
      return action.handler(context);
    };
    return { ...action, handler };
  }

  /** Waits until a task is finished, removes it from the queue, and returns it. */
  async result(id) {
    const task = this.#all.get(id);
    await task.finished;
    this.#all.delete(id);
    return task;
  }
}

module.exports = { Tasks };
