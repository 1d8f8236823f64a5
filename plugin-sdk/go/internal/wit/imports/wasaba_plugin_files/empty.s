// Permits functions without bodies in this package.
