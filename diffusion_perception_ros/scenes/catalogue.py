"""Which things are found where; a thing is a function that draws its parts."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_perception_ros.scenes.household import (
    armchair,
    ball,
    books,
    bottle,
    cabinet,
    carton,
    chair,
    fruit,
    lamp,
    mug,
    person,
    plant,
    table,
    vase,
)
from diffusion_perception_ros.scenes.outdoors import (
    barrel,
    bench,
    bush,
    car,
    cone,
    dog,
    flat_animal,
    leaf,
    rock,
    sign,
    standee,
    strokes,
    tree,
)
from diffusion_perception_ros.scenes.parts import Part, Rng

Thing = Callable[[Rng], list[Part]]
ON_TABLE: tuple[Thing, ...] = (mug, bottle, vase, fruit, books, mug, bottle, fruit, leaf, strokes)
INDOORS: tuple[Thing, ...] = (
    *(
        ball,
        carton,
        chair,
        table,
        lamp,
        armchair,
        cabinet,
        plant,
        person,
        standee,
        dog,
        vase,
        flat_animal,
        chair,
        carton,
    ),
    *(barrel, strokes, leaf, books, person),
)
OUTDOORS: tuple[Thing, ...] = (
    *(
        tree,
        bush,
        rock,
        car,
        cone,
        barrel,
        sign,
        bench,
        person,
        standee,
        dog,
        flat_animal,
        carton,
        ball,
        person,
        tree,
        car,
    ),
    *(bush, rock, cone, sign),
)
FLYING: tuple[Thing, ...] = (ball, leaf, strokes, carton, books, flat_animal, standee, fruit, vase)
