WITH ranked AS (
  SELECT
    a.id AS a,
    b.id AS b,
    row_number() OVER (PARTITION BY a.id ORDER BY array_distance(a.embedding, b.embedding), b.id) AS rank
  FROM vectors AS a CROSS JOIN vectors AS b
  WHERE a.id <> b.id
)
SELECT wa.definition AS definition, wb.definition AS nearest
FROM ranked
JOIN words AS wa ON wa.id = ranked.a
JOIN words AS wb ON wb.id = ranked.b
WHERE rank = 1
ORDER BY wa.id
