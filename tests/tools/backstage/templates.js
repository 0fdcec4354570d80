// Reads a template.yaml as Backstage's catalog does.
'use strict';

const fs = require('node:fs/promises');

/** Returns {entity, messages}: the entity of the file, and the catalog's errors about it. */
async function readTemplate(load, file) {
  const { parseEntityYaml } = load('@backstage/plugin-catalog-node');
  const results = [...parseEntityYaml(await fs.readFile(file), { type: 'file', target: file })];
  const errors = results.filter(result => result.type === 'error').map(result => result.error.message);
  if (errors.length || results.length !== 1) {
    return { messages: errors.length ? errors : [`${file} holds ${results.length} entities, not one`] };
  }
  try {
    return { entity: await acceptedEntity(load, results[0].entity, file), messages: [] };
  } catch (error) {
    return { messages: [error.message] };
  }
}

/** Applies the catalog's policies and the validator of templates; both throw on errors. */
async function acceptedEntity(load, parsed, file) {
  const model = load('@backstage/catalog-model');
  const { templateEntityV1beta3Validator } = load('@backstage/plugin-scaffolder-common');
  const entity = await policies(model).enforce(located(model, parsed, file));
  if (!(await templateEntityV1beta3Validator.check(entity))) {
    throw new Error(`${entity.apiVersion} ${entity.kind} is not a Template of scaffolder.backstage.io/v1beta3`);
  }
  return entity;
}

/** Returns the policies that a catalog applies to every entity. */
function policies(model) {
  return model.EntityPolicies.allOf([
    new model.SchemaValidEntityPolicy(),
    new model.DefaultNamespaceEntityPolicy(),
    new model.NoForeignRootFieldsEntityPolicy(),
    new model.FieldFormatEntityPolicy(),
  ]);
}

/** Returns the entity with the annotation that says where it was read from. */
function located(model, entity, file) {
  const location = { [model.ANNOTATION_LOCATION]: `file:${file}` };
  const annotations = { ...entity.metadata?.annotations, ...location };
  return { ...entity, metadata: { ...entity.metadata, annotations } };
}

module.exports = { located, policies, readTemplate };
