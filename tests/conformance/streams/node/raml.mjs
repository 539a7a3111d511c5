// Reads RAML 1.0 from standard input with a parser that is not ours; prints what it finds wrong, what operations it knows, and
// for each sample of the arguments {samples: [[type, payload], …]} whether the payload is of the type.
import amf from "amf-client-js";
import { readFileSync } from "node:fs";

const { samples } = JSON.parse(process.argv[2]);
const configuration = amf.RAMLConfiguration.RAML10();
const client = configuration.baseUnitClient();
const parsed = await client.parseContent(readFileSync(0, "utf8"));
const wrong = parsed.results.map((each) => each.message);
const model = client.transform(parsed.baseUnit, amf.PipelineId.Editing);
const report = await client.validate(model.baseUnit);
wrong.push(...model.results.map((each) => each.message), ...report.results.map((each) => each.message));
const operations = {};
for (const endpoint of model.baseUnit.encodes?.endPoints ?? []) {
  for (const operation of endpoint.operations) {
    const ways = operation.security.flatMap((each) => each.schemes).map((each) => [
      each.scheme?.name.value() ?? null,
      (each.settings?.flows ?? []).flatMap((flow) => flow.scopes.map((scope) => scope.name.value())),
    ]);
    operations[`${operation.method.value().toUpperCase()} ${endpoint.path.value()}`] = {
      ways,
      statuses: operation.responses.map((each) => each.statusCode.value()).sort(),
      bodies: operation.requests.flatMap((each) => each.payloads.map((payload) => payload.mediaType.value())),
      query: operation.requests.flatMap((each) => each.queryParameters.map((one) => one.name.value())).sort(),
    };
  }
}
const shapes = new Map((model.baseUnit.declares ?? []).map((each) => [each.name?.value(), each]));
const fits = [];
for (const [type, payload] of samples) {
  const validator = configuration.elementClient().payloadValidatorFor(shapes.get(type), "application/json", amf.ValidationMode.StrictValidationMode);
  fits.push((await validator.validate(JSON.stringify(payload))).conforms);
}
console.log(JSON.stringify({ wrong, operations, fits, types: [...shapes.keys()].sort() }));
