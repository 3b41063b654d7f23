// Package scripts holds no code: it is where the tests of the repository itself live, next to the scripts that
// build, test and measure it. They keep the walls between the packages, the top level, and the presence of package
// documentation, which no compiler checks.
package scripts
