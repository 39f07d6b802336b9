-- name: known
select text_sha256, embedding from embeddings
where model = %(model)s and text_sha256 = any(%(hashes)s)
