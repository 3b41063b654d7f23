// An assembly file lets the package declare functions without a body: those that are linked to the runtime's.
