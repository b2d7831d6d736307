"""All published weights, one after the other: downloaded, converted, proved, certified, told."""
