package profile

import _ "embed" // the schema

// Schema is a JSON Schema (draft 2020-12) of the file format, for editors. It accepts every profile that Parse accepts; what
// it refuses, Parse refuses. A test holds the two together.
//
//go:embed profile.schema.json
var Schema []byte
