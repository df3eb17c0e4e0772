"""The identity directory: SCIM 2.0 over streams."""
