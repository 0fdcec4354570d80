// Reads a catalog-info.yaml as Backstage's catalog does: with the files that it leads to.
'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');

const { located, policies } = require('./templates');

// Where an entity names others, and of which kind they are when it does not say so.
const REFERENCES = {
  system: 'system',
  domain: 'domain',
  subcomponentOf: 'component',
  providesApis: 'api',
  consumesApis: 'api',
  dependsOn: undefined,
  dependencyOf: undefined,
};
const DOCUMENTED_BY = 'backstage.io/techdocs-entity';

/** Returns {entities, messages}: what the file holds and leads to, and what the catalog has against it. */
async function readCatalog(load, file) {
  const model = load('@backstage/catalog-model');
  const entities = [];
  const messages = [];
  const files = [file];
  for (const each of files) {
    for (const { type, entity, error } of await parse(load, each)) {
      try {
        if (type === 'error') {
          throw error;
        }
        entities.push(await accepted(model, entity, each));
        files.push(...(await targets(entity, each)));
      } catch (problem) {
        messages.push(`${path.basename(each)}: ${problem.message}`);
      }
    }
  }
  return { entities, messages: [...messages, ...dangling(model, entities)] };
}

async function parse(load, file) {
  const { parseEntityYaml } = load('@backstage/plugin-catalog-node');
  return [...parseEntityYaml(await fs.readFile(file), { type: 'file', target: file })];
}

/** Puts the entity through the catalog's policies and the validator of its kind, which throw on what is wrong. */
async function accepted(model, given, file) {
  const entity = await policies(model).enforce(located(model, await withTexts(given, file), file));
  const check = model[`${entity.kind.toLowerCase()}EntityV1alpha1Validator`];
  if (!check || !(await check.check(entity))) {
    throw new Error(`${entity.apiVersion} ${entity.kind} is no kind of the catalog`);
  }
  return entity;
}

/** Replaces `{$text: FILE}` by what the file holds. */
async function withTexts(value, file) {
  if (Array.isArray(value)) {
    return Promise.all(value.map(item => withTexts(item, file)));
  }
  if (!(value instanceof Object)) {
    return value;
  }
  if (Object.keys(value).join() === '$text') {
    return fs.readFile(path.resolve(path.dirname(file), value.$text), 'utf-8');
  }
  const entries = Object.entries(value).map(async ([key, item]) => [key, await withTexts(item, file)]);
  return Object.fromEntries(await Promise.all(entries));
}

/** Returns the files that a Location leads to; one that is optional need not be there. */
async function targets({ kind, spec }, file) {
  const found = [];
  for (const target of kind === 'Location' ? [spec.target, spec.targets].flat().filter(Boolean) : []) {
    const place = path.resolve(path.dirname(file), target);
    const isThere = await fs.stat(place).catch(() => null);
    if (isThere) {
      found.push(place);
    } else if (spec.presence !== 'optional') {
      throw new Error(`${target} is not there`);
    }
  }
  return found;
}

/** Returns a message for each reference to an entity that is not among them; owners are known elsewhere. */
function dangling(model, entities) {
  const known = new Set(entities.map(entity => model.stringifyEntityRef(entity)));
  const messages = [];
  for (const entity of entities) {
    for (const [name, defaultKind] of references(entity)) {
      const ref = reference(model, name, defaultKind);
      if (!known.has(ref)) {
        messages.push(`${model.stringifyEntityRef(entity)} names ${ref}, which is not there`);
      }
    }
  }
  return messages;
}

function references({ metadata, spec }) {
  const named = Object.entries(REFERENCES).flatMap(([field, kind]) =>
    [spec[field] ?? []].flat().map(name => [name, kind]),
  );
  return [...named, ...[metadata.annotations[DOCUMENTED_BY] ?? []].flat().map(name => [name])];
}

function reference(model, name, defaultKind) {
  try {
    return model.stringifyEntityRef(model.parseEntityRef(name, { defaultKind }));
  } catch {
    // It says no kind.
    return name;
  }
}

module.exports = { readCatalog };
