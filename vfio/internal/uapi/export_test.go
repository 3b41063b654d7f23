package uapi

// DecodeLocked is decodeLocked, for the tests.
var DecodeLocked = decodeLocked
