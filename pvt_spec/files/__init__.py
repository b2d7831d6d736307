"""Files: read within limits and by types, and put in their places whole or not at all."""
