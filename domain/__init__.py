"""The monolith: everything the product knows, free of triggers and hosting."""
