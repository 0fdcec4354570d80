// Reads a catalog-info.yaml and the files that it refers to, as Backstage's catalog does.
'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');

const { located, policies } = require('./templates');

// The fields of an entity that refer to other entities, with the default kind of each reference.
const REFERENCES = {
  system: 'system',
  domain: 'domain',
  subcomponentOf: 'component',
  providesApis: 'api',
  consumesApis: 'api',
  dependsOn: undefined,
  dependencyOf: undefined,
};
const DOCUMENTATION = 'backstage.io/techdocs-entity';

/** Returns {entities, messages}: the entities of the file and of its targets, and the catalog's errors. */
async function readCatalog(load, file) {
  const model = load('@backstage/catalog-model');
  const entities = [];
  const messages = [];
  const files = [file];
  // Grows during the loop, by the targets of Locations.
  for (const current of files) {
    for (const { type, entity, error } of await parse(load, current)) {
      try {
        if (type === 'error') {
          throw error;
        }
        entities.push(await accepted(model, entity, current));
        files.push(...(await targets(entity, current)));
      } catch (problem) {
        messages.push(`${path.basename(current)}: ${problem.message}`);
      }
    }
  }
  return { entities, messages: [...messages, ...dangling(model, entities)] };
}

async function parse(load, file) {
  const { parseEntityYaml } = load('@backstage/plugin-catalog-node');
  return [...parseEntityYaml(await fs.readFile(file), { type: 'file', target: file })];
}

/** Applies the catalog's policies and the validator of the entity's kind; both throw on errors. */
async function accepted(model, parsed, file) {
  const entity = await policies(model).enforce(located(model, await withTexts(parsed, file), file));
  const check = model[`${entity.kind.toLowerCase()}EntityV1alpha1Validator`];
  if (!check || !(await check.check(entity))) {
    throw new Error(`${entity.apiVersion} ${entity.kind} is no kind of the catalog`);
  }
  return entity;
}

/** Replaces `{$text: FILE}` by the content of the file. */
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

/** Returns the existing target files of a Location; throws when a required one is missing. */
async function targets({ kind, spec }, file) {
  const files = [];
  for (const target of kind === 'Location' ? [spec.target, spec.targets].flat().filter(Boolean) : []) {
    const targetFile = path.resolve(path.dirname(file), target);
    const exists = await fs.stat(targetFile).then(() => true, () => false);
    if (exists) {
      files.push(targetFile);
    } else if (spec.presence !== 'optional') {
      throw new Error(`${target} is not there`);
    }
  }
  return files;
}

/** Returns a message per reference to a missing entity. Owners are not checked: they are defined elsewhere. */
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
  const inSpec = Object.entries(REFERENCES).flatMap(([field, kind]) =>
    [spec[field] ?? []].flat().map(name => [name, kind]),
  );
  return [...inSpec, ...[metadata.annotations[DOCUMENTATION] ?? []].flat().map(name => [name])];
}

function reference(model, name, defaultKind) {
  try {
    return model.stringifyEntityRef(model.parseEntityRef(name, { defaultKind }));
  } catch {
    // The name has no kind, and the field has no default kind.
    return name;
  }
}

module.exports = { readCatalog };
