"""How published weights come here: files of hosts, repositories of Hugging Face.

Only here is what downloads imported: requests, pooch and huggingface_hub, of the extra ``hub``.
"""
